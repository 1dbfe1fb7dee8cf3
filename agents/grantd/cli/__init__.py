"""grantctl: the broker for people and scripts. Needs the extra `cli` of the distribution."""

import os
import sys
from importlib import import_module
from typing import NoReturn

# gRPC's own log lines say in C++ what grantctl then says in a sentence; it is read when the first channel is opened
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def main() -> NoReturn:
    """Run grantctl and exit. What ssh asks for at each connection is answered before anything large is imported."""
    # imported here: whoever needs only the quick answers does not wait for the rest
    status = import_module("grantd.cli.quick").attempt(sys.argv[1:])
    if status is not None:
        sys.exit(status)
    import_module("grantd.cli.app").main()
    raise AssertionError("the command tree exits")
