"""grantctl: the broker for people and scripts. Needs the extra `cli` of the distribution."""

import os
import sys

# gRPC's own log lines say in C++ what grantctl then says in a sentence; it is read when the first channel is opened
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def main() -> None:
    """Run grantctl and exit. What scripts and ssh ask for again and again comes before any large import."""
    words = sys.argv[1:]
    if "run" in words[:3]:
        from grantd.cli import thin  # noqa: PLC0415  only what is needed is imported

        quick = thin.attempt(words)
    else:
        from grantd.cli import quick as answers  # noqa: PLC0415  the same

        quick = answers.attempt(words)
    if quick is not None:
        os._exit(quick)  # nothing is left to flush, and the interpreter's own end would take as long as the rest
    from grantd.cli.app import main as whole  # noqa: PLC0415  the same

    whole()
