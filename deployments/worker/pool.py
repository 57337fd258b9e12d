"""Waiting for the work pool, which somebody else makes once the worker has begun.

Prefect's own worker would look for it every ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound

logger = logging.getLogger(__name__)

LOOK_AGAIN = timedelta(seconds=0.2)  # not scaled: it is a call to Prefect
REFUSALS = (401, 403)  # the same at the next look: somebody has to correct PREFECT_API_AUTH_STRING


async def pool_is_there(name: str) -> None:
    """Return when the work pool is there, whatever keeps Prefect from answering. Raise what it refuses us with."""
    told: str | None = None
    async with get_client() as client:
        while (why := await _what_keeps_it(client, name)) is not None:
            if why != told:  # once, and not at each look
                logger.info("The work pool %s is waited for (%s)", name, why)
                told = why
            await asyncio.sleep(LOOK_AGAIN.total_seconds())


async def _what_keeps_it(client: PrefectClient, name: str) -> str | None:
    """Look once. Return None where it is there."""
    try:
        await client.read_work_pool(name)
    except httpx.HTTPStatusError as error:
        if error.response.status_code in REFUSALS:
            raise
        return f"Prefect answers {error.response.status_code}"
    except ObjectNotFound:
        return "nobody has made it yet"
    except (httpx.HTTPError, ValueError, OSError) as error:  # ValueError: a proxy's page in its place, which is no JSON
        return type(error).__name__
    return None
