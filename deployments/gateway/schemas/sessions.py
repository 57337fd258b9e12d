"""The JSON of sessions."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

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


class SignOnDocument(Document):
    """A sign-on that has begun."""

    url: str = Field(description="Where to lead the browser.")
    state: str = Field(description="Comes back with the browser. Another one is not the sign-on that was begun.")
    nonce: str = Field(description="Send it with the code.")
    code_verifier: str = Field(description="Send it with the code.")


class SignOnProof(BaseModel):
    """What a browser came back with, and what was kept."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=4000)
    nonce: str = Field(min_length=1, max_length=200)
    code_verifier: str = Field(min_length=43, max_length=128)  # RFC 7636, 4.1
    iss: str | None = Field(None, max_length=1000, description="As it came back, where it did.")
