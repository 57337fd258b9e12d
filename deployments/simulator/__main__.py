"""`python -m darkroom.deployments.simulator --port 9100 --home DIR`: run the simulator until SIGTERM."""

from __future__ import annotations

import argparse
from pathlib import Path

from .endpoints import ENDPOINTS
from .others import PACES
from .provider import Options
from .server import serve


def main() -> None:
    arguments = vars(_parser().parse_args())
    serve(Options(**{**arguments, "latency_of": dict(arguments["latency_of"])}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m darkroom.deployments.simulator", description="A fal.ai of one's own."
    )
    parser.add_argument("--home", type=Path, required=True, help="folder of its certificates and keys")
    parser.add_argument("--port", type=int, default=Options.port, help="0: any free one, see the line it prints")
    parser.add_argument("--latency", type=float, default=Options.latency, help="seconds a picture is in progress")
    parser.add_argument(
        "--latency-of",
        type=_latency_of,
        action="append",
        default=[],
        metavar="ENDPOINT=SECONDS",
        help="for one endpoint; may be repeated. Others take a multiple of --latency: a film 5, a training 20 times",
    )
    parser.add_argument(
        "--concurrency", type=int, default=Options.concurrency, help="requests in progress at once, per account"
    )
    parser.add_argument("--mux-webhook-url", metavar="URL", help="where Mux' webhooks go; unset: none are sent")
    parser.add_argument("--seed", type=int, default=Options.seed, help="of the rules that apply by chance")
    parser.add_argument("--crowd", type=int, default=Options.crowd, help="so many models more in the catalogue")
    parser.add_argument("--fixed-pictures", action="store_true", help="one picture for everybody, drawn once")
    parser.add_argument(
        "--webhook-retry", type=float, default=Options.webhook_retry, help="seconds before a webhook's first retry"
    )
    return parser


def _latency_of(text: str) -> tuple[str, float]:
    endpoint, _, seconds = text.partition("=")
    # A misspelt name would be an option that never does anything.
    if endpoint not in (known := [*ENDPOINTS, *PACES]):
        raise argparse.ArgumentTypeError(f"no such endpoint: {endpoint}; there are {', '.join(known)}")
    try:
        return endpoint, float(seconds)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not ENDPOINT=SECONDS: {text}") from None


if __name__ == "__main__":
    main()
