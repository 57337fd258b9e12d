"""Migrates the two databases of a cluster nobody uses yet, for its template.

A process of its own, as it imports Prefect's server; both databases are named by the environment, as for the parts. It
does what that server does when it starts: its tables, and the types of blocks that the UI offers.
"""

from __future__ import annotations

import asyncio

from prefect.plugins import load_prefect_collections
from prefect.server.database import provide_database_interface
from prefect.server.models.block_registration import run_block_auto_registration
from sqlalchemy import update

from darkroom.ledger import migrate
from darkroom.settings import load_settings


async def migrate_prefect() -> None:
    database = provide_database_interface()
    await database.create_db()
    load_prefect_collections()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)
        # In one statement, of what provisioning would change one by one.
        await session.execute(update(database.BlockType).values(logo_url=None))
        await session.commit()


def main() -> None:
    migrate(load_settings().ledger_url)
    asyncio.run(migrate_prefect())


if __name__ == "__main__":
    main()
