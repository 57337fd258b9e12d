"""Which hosts the simulator speaks for, and what each of them is."""

from __future__ import annotations

from enum import Enum

FAL_DOMAINS = ("fal.run", "falrun.com", "fal.ai", "fal.media")
OTHER_DOMAINS = ("generativelanguage.googleapis.com", "elevenlabs.io", "mux.com")
DOMAINS = FAL_DOMAINS + OTHER_DOMAINS


class Role(Enum):
    QUEUE = "queue"  # queue.fal.run: submit, status, result, cancel
    RUN = "run"  # fal.run: one synchronous call
    REST = "rest"  # rest.fal.ai: upload tokens and the webhook keys
    PLATFORM = "platform"  # api.fal.ai: catalogue, prices, bills, requests, settings
    SITE = "site"  # fal.ai: the pages of the models, of which only what is for machines
    CDN = "cdn"  # *.fal.media: files
    GEMINI = "gemini"  # generativelanguage.googleapis.com
    ELEVENLABS = "elevenlabs"  # api.elevenlabs.io
    MUX = "mux"  # api.mux.com
    MUX_STORAGE = "mux storage"  # where its direct uploads go


_ROLES = {
    "queue.fal.run": Role.QUEUE,
    # fal's backup domain, which its client turns to where the first cannot be connected to.
    "queue.falrun.com": Role.QUEUE,
    "fal.run": Role.RUN,
    "falrun.com": Role.RUN,
    "rest.fal.ai": Role.REST,
    "rest.alpha.fal.ai": Role.REST,  # its older name, still in wide use
    "api.fal.ai": Role.PLATFORM,
    "fal.ai": Role.SITE,
    "generativelanguage.googleapis.com": Role.GEMINI,
    "api.elevenlabs.io": Role.ELEVENLABS,
    "api.mux.com": Role.MUX,
    "direct-uploads.production.mux.com": Role.MUX_STORAGE,
}


def is_fal_host(host: str) -> bool:
    return _is_within(host, FAL_DOMAINS)


def is_known_host(host: str) -> bool:
    return _is_within(host, DOMAINS)


def _is_within(host: str, domains: tuple[str, ...]) -> bool:
    # With the dot: notfal.ai is somebody else's.
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def role_of(host: str) -> Role | None:
    """Return the role of the host, or None if it has none."""
    # The CDN has moved to other names before, so every one under fal.media serves every file.
    if host == "fal.media" or host.endswith(".fal.media"):
        return Role.CDN
    return _ROLES.get(host)
