"""Alembic's entry: runs on the connection that `migrate` holds, in its transaction."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from darkroom.ledger import tables

assert tables  # fills the metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
context.run_migrations()
