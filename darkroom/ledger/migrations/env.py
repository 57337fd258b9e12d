"""Alembic's entry: runs on the connection that `migrate` gives it, each migration in a transaction of its own."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from darkroom.ledger import callback_tables, tables

assert tables and callback_tables  # fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    transaction_per_migration=True,  # one that makes an index beside the writes that go on leaves its own meanwhile
)
with context.begin_transaction():
    context.run_migrations()
