"""grantctl: the broker for people and scripts. Needs the extra `cli` of the distribution."""

import os

# gRPC's own log lines say in C++ what grantctl then says in a sentence; it is read when the first channel is opened
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from grantd.cli.app import main

__all__ = ["main"]
