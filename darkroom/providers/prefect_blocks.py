"""Our accounts as blocks of Prefect's: their forms in its UI, and what is saved from the environment.

Only provisioning makes them, so only that imports Prefect for them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from prefect.blocks.core import Block
from pydantic import create_model

from darkroom.providers.account import NAME, Configured


@cache
def block_class(kind: type[Configured]) -> type[Block]:
    """Make the block with the fields, the name and the description of that account."""
    bases: Any = (kind, Block)
    made = create_model(kind.__name__, __base__=bases, __module__=kind.__module__, __doc__=kind.__doc__)
    return cast(type[Block], made)


def register(kind: type[Configured]) -> None:
    """Bring the form in Prefect's UI up to date with the fields of this version."""
    block_class(kind).register_type_and_schema()


def save(account: Configured) -> None:
    """Write the account's one block, over what it said before."""
    block_class(type(account))(**account.values()).save(NAME, overwrite=True)
