"""Routers whose routes the application takes as they stand."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute


def method_name(route: APIRoute) -> str:
    """Return what a generated client's method is called: a route that stands at two addresses has a name at each."""
    return f"{route.name}_deprecated" if route.deprecated else route.name


def whole_router(**options: Any) -> APIRouter:
    """Make a router of routes that need nothing from the application: prefix, tags and their names are the router's."""
    return APIRouter(generate_unique_id_function=method_name, **options)


def take(whole: APIRouter, *parts: APIRouter) -> None:
    """Take the routes of the parts in, in their order and as they stand."""
    for part in parts:
        # FastAPI builds the routes of a router that is included a second time, for each application: a quarter of a CPU
        # second at a gateway's first request.
        whole.routes.extend(part.routes)
