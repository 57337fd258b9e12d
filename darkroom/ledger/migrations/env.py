"""Alembic's entry: runs on the connection that `migrate` holds, in its transaction."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from darkroom.ledger import callback_tables, tables

assert tables and callback_tables  # fills the metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
context.run_migrations()
