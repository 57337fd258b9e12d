"""The account's settings for files, and who may read a file of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..answers import Json
from ..book import Account
from ..cdn import StoredFile
from ..hosts import Role, role_of
from ..provider import Provider
from .access import ADMINS, caller, invalid, json_object, not_found

_ACCESS = ("allow", "forbid", "hide")
_MAX_SIGNED_SECONDS = 7 * 24 * 3600  # fal's own bound


class FilesApi:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def routes(self) -> list[Route]:
        return [
            Route("/v1/storage/settings", self.settings, methods=["GET"]),
            Route("/v1/storage/settings", self.set_settings, methods=["PUT"]),
            Route("/v1/storage/files/acl", self.acl, methods=["GET"]),
            Route("/v1/storage/files/acl", self.set_acl, methods=["PUT"]),
            Route("/v1/storage/files/sign", self.sign, methods=["POST"]),
        ]

    async def settings(self, request: Request) -> Response:
        account = caller(request, *ADMINS)
        return Json(self._provider.storage_settings(account))

    async def set_settings(self, request: Request) -> Response:
        """Replace the settings."""
        # As at fal, what is left out is reset.
        account, body = caller(request, *ADMINS), await json_object(request)
        seconds, acl = body.get("expiration_duration_seconds"), body.get("initial_acl")
        if seconds is not None and (not isinstance(seconds, int) or seconds < 1):
            raise invalid("expiration_duration_seconds must be a positive integer or null")
        if acl is not None:
            acl = _acl(acl)
        self._provider.set_storage(account, {"expiration_duration_seconds": seconds, "initial_acl": acl})
        return Json(self._provider.storage_settings(account))

    async def acl(self, request: Request) -> Response:
        file = self._file(request, caller(request, *ADMINS))
        return Json({"default": file.access, "rules": []})

    async def set_acl(self, request: Request) -> Response:
        self._file(request, caller(request, *ADMINS))
        asked = _acl(await json_object(request))
        self._provider.cdn.restrict(_path(request), asked["default"])
        return Json(asked)

    async def sign(self, request: Request) -> Response:
        """Give an address that may be read whatever the file's access."""
        self._file(request, caller(request, *ADMINS))
        body = await json_object(request)
        seconds = body.get("expiration_seconds", 3600)
        if not isinstance(seconds, int) or not 1 <= seconds <= _MAX_SIGNED_SECONDS:
            raise invalid(f"expiration_seconds must be from 1 to {_MAX_SIGNED_SECONDS}")
        if (ticket := self._provider.cdn.sign(_path(request), seconds=seconds)) is None:
            raise not_found("No such file")
        address = urlsplit(request.query_params["url"])._replace(query=f"identity={ticket}", fragment="")
        return Json({"signed_url": address.geturl()})

    def _file(self, request: Request, account: Account) -> StoredFile:
        """Return the account's own file. Raise PlatformError for any other."""
        file = self._provider.cdn.find(_path(request))
        # Assumed: another account's is answered like none, as its requests are.
        if file is None or file.owner != account.user_id:
            raise not_found("No such file")
        return file


def _path(request: Request) -> str:
    """Return the path of the file that is asked for; an empty one, where no file is, for what is no address of ours."""
    try:
        asked = urlsplit(request.query_params.get("url", ""))
    except ValueError:  # as of a bracket that nothing closes
        return ""
    return asked.path if role_of(asked.hostname or "") is Role.CDN else ""


def _acl(asked: Any) -> dict[str, Any]:
    """Return what is kept of an access list."""
    # fal drops rules for users that it does not know, and here nobody is known.
    if not isinstance(asked, dict) or asked.get("default") not in _ACCESS:
        raise invalid(f"default must be one of {', '.join(_ACCESS)}")
    return {"default": asked["default"], "rules": []}
