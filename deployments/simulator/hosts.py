"""Which hosts the simulator speaks for, and what each of them is."""

from __future__ import annotations

from enum import Enum

DOMAINS = ("fal.run", "falrun.com", "fal.ai", "fal.media")


class Role(Enum):
    QUEUE = "queue"  # queue.fal.run: submit, status, result, cancel
    RUN = "run"  # fal.run: one synchronous call
    REST = "rest"  # rest.fal.ai: upload tokens and the webhook keys
    PLATFORM = "platform"  # api.fal.ai: the account's own request list
    CDN = "cdn"  # *.fal.media: files


_ROLES = {
    "queue.fal.run": Role.QUEUE,
    "queue.falrun.com": Role.QUEUE,
    "fal.run": Role.RUN,
    "falrun.com": Role.RUN,
    "rest.fal.ai": Role.REST,
    "rest.alpha.fal.ai": Role.REST,
    "api.fal.ai": Role.PLATFORM,
}


def is_fal_host(host: str) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in DOMAINS)


def role_of(host: str) -> Role | None:
    """The host prefix of the CDN has moved before, so every name under fal.media serves every file."""
    if host == "fal.media" or host.endswith(".fal.media"):
        return Role.CDN
    return _ROLES.get(host)
