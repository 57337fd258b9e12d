"""What a screen is: its name in the navigation, where it is, and which scope it is for."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter


@dataclass(frozen=True)
class Screen:
    """`path`: under `/studio`. `scope`: whoever lacks it does not see the screen in the navigation."""

    title: str
    path: str
    router: APIRouter
    scope: str = "read"
