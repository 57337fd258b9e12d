"""Which scope a key needs for which route: every route of the application is named here, once.

A route that is named nowhere takes the scope `admin` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.routing import compile_path

from darkroom.ledger import Scope

ROUTES: Final[Mapping[Scope, tuple[str, ...]]] = {
    Scope.READ: (
        "GET /v1/assets",
        "GET /v1/assets/{id}",
        "GET /v1/batches/{id}/manifest",
        "GET /v1/budget",
        "GET /v1/callback-endpoint",
        "GET /v1/callbacks",
        "GET /v1/dead-letters",
        "GET /v1/events",
        "GET /v1/events/{id}",
        "GET /v1/jobs",
        "GET /v1/jobs/{id}",
        "GET /v1/jobs/{id}/children",
        "GET /v1/keys",
        "GET /v1/loras",
        "GET /v1/loras/{id}",
        "GET /v1/model-categories",
        "GET /v1/models",
        "GET /v1/models/{endpoint:path}",
        "GET /v1/pending-runs",
        "GET /v1/pending-runs/{id}",
        "GET /v1/pipelines",
        "GET /v1/pipelines/{kind}",
        "GET /v1/sessions/current",
        "POST /v1/sessions",  # they open what the key itself does
        "DELETE /v1/sessions/current",
        "POST /v1/quotes",  # nothing is written
        "POST /v1/batches/{id}/selection/quote",
        "GET /v1/starts",  # pending runs by their name in 0.1
        "GET /v1/starts/{id}",
        "GET /v1/stream",
        "POST /v1/stream-tokens",  # they open what the key itself may read
        "GET /v1/usage",
        "GET /v1/waits/{id}",
    ),
    Scope.ORDERS: (
        "DELETE /v1/assets/{id}",
        "POST /v1/batches",
        "POST /v1/batches/{id}/pause",
        "POST /v1/batches/{id}/resume",
        "POST /v1/batches/{id}/selection",
        "DELETE /v1/callback-endpoint",
        "PUT /v1/callback-endpoint",
        "POST /v1/callback-endpoint/rotate",
        "POST /v1/callback-endpoint/test",
        "POST /v1/callbacks/resend",
        "POST /v1/callbacks/{id}/resend",
        "POST /v1/dead-letters/discard",
        "POST /v1/dead-letters/replay",
        "POST /v1/debates",
        "POST /v1/edits",
        "POST /v1/generations",
        "POST /v1/images",
        "POST /v1/imports",
        "POST /v1/jobs/{id}/cancel",
        "POST /v1/jobs/{id}/repeat",
        "POST /v1/jobs/{id}/replay",
        "POST /v1/loras",
        "POST /v1/orders/{kind}",
        "POST /v1/uploads",
        "POST /v1/waits/{id}/extend",
        "POST /v1/waits/{id}/wake",
    ),
    Scope.EVENTS: ("POST /v1/events",),
    Scope.ADMIN: (
        "GET /v1/admin/accounts",
        "POST /v1/admin/accounts",
        "GET /v1/admin/dead-letters",
        "POST /v1/admin/dead-letters/discard",
        "GET /v1/admin/dead-letters/jobs",
        "GET /v1/admin/drift",
        "POST /v1/admin/dead-letters/replay",
        "GET /v1/admin/jobs",
        "GET /v1/admin/jobs/{id}",
        "POST /v1/admin/jobs/{id}/cancel",
        "POST /v1/admin/jobs/{id}/replay",
        "GET /v1/admin/keys",
        "POST /v1/admin/keys",
        "GET /v1/admin/keys/{id}",
        "POST /v1/admin/keys/{id}/revoke",
        "POST /v1/admin/models",
        "GET /v1/admin/pending-runs",
        "POST /v1/admin/pending-runs/drop",
        "POST /v1/admin/pending-runs/release",
        "GET /v1/admin/plans",
        "POST /v1/admin/plans",
        "GET /v1/admin/queue",
        "GET /v1/admin/usage",
        "GET /v1/admin/queue/lately",
        "GET /v1/admin/runs",
        "GET /v1/admin/users",
        "POST /v1/admin/users",
        "GET /v1/admin/users/{user}",
        "POST /v1/admin/users/{user}/budgets",
        "POST /v1/admin/users/{user}/plan",
        "POST /v1/admin/users/{user}/revoke",
        "POST /v1/admin/users/{user}/rotate",
        "GET /v1/admin/waits/{id}",
        "POST /v1/admin/waits/{id}/extend",
        "POST /v1/admin/waits/{id}/wake",
    ),
}
# Health, documentation, webhooks, which prove by themselves whose they are, and sign-ons, which the provider proves.
WITHOUT_KEY: Final = frozenset(
    {
        "GET /",
        "GET /studio",
        "GET /docs",
        "GET /docs/oauth2-redirect",
        "GET /openapi.json",
        "GET /healthz",
        "GET /readyz",
        "POST /v1/hooks/{name}",
        "POST /v1/sessions/oidc",
        "POST /v1/sessions/oidc/authorization",
        "POST /webhooks/{account_id}",
    }
)

_BY_METHOD = {
    method: [
        (compile_path(path)[0], scope)
        for scope, routes in ROUTES.items()
        for at, _, path in (route.partition(" ") for route in routes)
        if at == method
    ]
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
}


def scope_of(method: str, path: str) -> Scope:
    """Return the scope that a key needs to call that address. HEAD is as GET."""
    # Of two that match the first would win: `tests/unit/test_gateway_rates.py` holds that none is named twice.
    for pattern, scope in _BY_METHOD.get("GET" if method == "HEAD" else method, ()):
        if pattern.match(path):
            return scope
    # One that was forgotten is closed rather than open; `tests/integration/test_gateway_scopes.py` finds it.
    return Scope.ADMIN
