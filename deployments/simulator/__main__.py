"""`python -m deployments.simulator --port 9100 --home DIR`: run the simulator until SIGTERM."""

from __future__ import annotations

import argparse
from pathlib import Path

from .provider import Options
from .server import serve


def main() -> None:
    serve(Options(**vars(_parser().parse_args())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deployments.simulator", description="A fal.ai of one's own.")
    parser.add_argument("--home", type=Path, required=True, help="folder of its certificates and keys")
    parser.add_argument("--port", type=int, default=Options.port, help="0: any free one, see the line it prints")
    parser.add_argument("--latency", type=float, default=Options.latency, help="seconds a request is in progress")
    parser.add_argument(
        "--concurrency", type=int, default=Options.concurrency, help="requests in progress at once, per account"
    )
    parser.add_argument("--seed", type=int, default=Options.seed, help="of the rules that apply by chance")
    parser.add_argument("--fixed-pictures", action="store_true", help="one picture for everybody, drawn once")
    parser.add_argument(
        "--webhook-retry", type=float, default=Options.webhook_retry, help="seconds before a webhook's first retry"
    )
    return parser


if __name__ == "__main__":
    main()
