"""The helper as `grantctl agentd --detach` starts it."""

import sys

from grantd.cli.agentd.command import behind

sys.exit(behind(sys.argv[1:]))
