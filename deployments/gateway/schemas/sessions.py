"""The JSON of sessions."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from darkroom.deployments.gateway.schemas.base import Document
from darkroom.ledger import Scope


class NewSessionDocument(Document):
    token: str = Field(description="A bearer, as a key is. It is shown this once.", examples=["ds_Vx1…"])
    expires_at: datetime


class SessionDocument(Document):
    """A session, without its token."""

    user_id: str
    user: str = Field(examples=["ann"])
    key_id: str = Field(examples=["key_019aa1f0c5d2"])
    key_name: str = Field(examples=["the shop's backend"])
    scopes: list[Scope] = Field(examples=[["orders", "read"]])
    created_at: datetime
    expires_at: datetime
