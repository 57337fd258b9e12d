"""Ends what a stack leaves behind when it is killed: `python -m darkroom.deployments.stack.janitor MARK`.

The kernel ends the parts of a killed stack, but not what they had started: a flow process would go on for minutes,
asking a Prefect that is gone. The janitor waits until the other end of its standard input is closed, which happens
however the stack ends, and then ends every process that carries the stack's mark in its environment.
"""

from __future__ import annotations

import signal
import sys

GRACE_SECONDS = 3.0


def main() -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    mark = sys.argv[1]
    sys.stdin.read()
    # Not before: what it waits with is memory for as long as the stack runs.
    from darkroom.deployments.stack.processes import end, marked

    end(marked(lambda found: found == mark), grace_seconds=GRACE_SECONDS)


if __name__ == "__main__":
    main()
