"""`python -m darkroom.deployments.worker --name local`: the warm worker, started before there is anything to poll.

What `prefect worker start --type warm` does, without the imports of its command line and of every collection, a second
of CPU. It makes its forkserver at once and waits for the work pool, so it can be started beside what makes that.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import suppress

from prefect.logging.configuration import setup_logging
from prefect.utilities.processutils import setup_signal_handlers_worker

from darkroom.deployments.worker.warm import WarmWorker
from darkroom.errors import DarkroomError
from darkroom.orchestrator import WORK_POOL


async def serve(name: str) -> None:
    # SIGTERM as SIGINT. Here, as the first SIGINT is then asyncio's, which lets the worker end and report its runs.
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    worker = WarmWorker(work_pool_name=WORK_POOL, name=name, create_pool_if_not_found=False)
    await worker.start()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m darkroom.deployments.worker", description="The worker that forks its runs."
    )
    parser.add_argument("--name", required=True, help="as Prefect's UI shows it")
    arguments = parser.parse_args()
    setup_logging()
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(serve(arguments.name))
    except DarkroomError as error:
        sys.exit(f"error: {error.message}")
    print("Worker stopped!")


if __name__ == "__main__":
    main()
