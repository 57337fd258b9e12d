"""`python -m darkroom.deployments.worker --name local`: the warm worker, started before there is anything to poll.

What `prefect worker start --type warm` does, without the imports of its command line and of every collection, a second
of CPU. It makes its forkserver at once and waits for the work pool, so it can be started beside what makes that; with
`--after FILE`, until somebody has made that file, too.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import anyio
from prefect.logging.configuration import setup_logging
from prefect.utilities.processutils import setup_signal_handlers_worker

from darkroom.deployments.worker.forkserver import ForkServer
from darkroom.deployments.worker.pool import LOOK_AGAIN
from darkroom.deployments.worker.warm import WarmWorker
from darkroom.errors import DarkroomError
from darkroom.orchestrator import WORK_POOL


async def serve(name: str, forkserver: ForkServer, *, after: Path | None) -> None:
    # SIGTERM as SIGINT. Here, as the first SIGINT is then asyncio's, which lets the worker end and report its runs.
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    if after is not None:
        await is_there(after)
    worker = WarmWorker(forkserver=forkserver, work_pool_name=WORK_POOL, name=name, create_pool_if_not_found=False)
    await worker.start()


async def is_there(file: Path) -> None:
    """Return when somebody has made that file."""
    while not await anyio.Path(file).exists():
        await asyncio.sleep(LOOK_AGAIN.total_seconds())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m darkroom.deployments.worker", description="The worker that forks its runs."
    )
    parser.add_argument("--name", required=True, help="as Prefect's UI shows it")
    parser.add_argument("--after", type=Path, metavar="FILE", help="take no run before this file is there")
    arguments = parser.parse_args()
    try:
        with suppress(KeyboardInterrupt):
            forkserver = ForkServer(forked=True)  # first of all, as nothing is running yet
            setup_logging()
            asyncio.run(serve(arguments.name, forkserver, after=arguments.after))
    except DarkroomError as error:
        sys.exit(f"error: {error.message}")
    print("Worker stopped!")


if __name__ == "__main__":
    main()
