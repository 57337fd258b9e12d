"""Mux's API, by its SDK (`mux-python`): direct uploads and assets, as plain mappings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from darkroom.errors import DarkroomError, Park, Retry
from darkroom.providers.mux.failures import classify_refusal
from darkroom.tls import tls_context

HOST = "https://api.mux.com"
CALL_SECONDS = (3.0, 20.0)  # to connect, and between two pieces of the answer
# How long the address of an upload is good: longer than we would ever try, then Mux itself forgets it.
UPLOAD_VALID_SECONDS = 900
# Ids become parts of URLs, so only plain ones count.
PLAIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class MuxApi:
    """One environment's client. Thread-safe; `host` is the seam for tests."""

    def __init__(self, token_id: str, token_secret: str, *, host: str = HOST) -> None:
        # Imported by who needs it.
        import mux_python

        configuration = mux_python.Configuration(host=host, username=token_id.strip(), password=token_secret.strip())
        # The SDK refuses answers with a word that is newer than itself. That is switched off in the only way there
        # is, for the whole process.
        lenient = mux_python.Configuration()
        lenient.client_side_validation = False
        mux_python.Configuration.set_default(lenient)
        client = mux_python.ApiClient(configuration)
        # It speaks urllib3, which knows nothing of `HTTPS_PROXY`, `NO_PROXY` and `SSL_CERT_FILE`.
        client.rest_client.pool_manager = _connections(host)
        self._connections = client.rest_client.pool_manager
        self._uploads = mux_python.DirectUploadsApi(client)
        self._assets = mux_python.AssetsApi(client)

    def create_upload(self, *, passthrough: str, title: str | None) -> Mapping[str, Any]:
        """Create an address for one film: `{id, url, status, …}`.

        A lost answer has cost nothing, and is forgotten there.
        """
        from mux_python import AssetMetadata, CreateAssetRequest, CreateUploadRequest, PlaybackPolicy

        settings = CreateAssetRequest(
            playback_policies=[PlaybackPolicy.PUBLIC],
            passthrough=passthrough,
            video_quality="basic",  # encoding is free in it
            meta=AssetMetadata(title=title, external_id=passthrough),
            test=False,
        )
        order = CreateUploadRequest(
            cors_origin="*", new_asset_settings=settings, timeout=UPLOAD_VALID_SECONDS, test=False
        )
        made = self._call(lambda: self._uploads.create_direct_upload(order, _request_timeout=CALL_SECONDS))
        if not PLAIN_ID.fullmatch(str(made.get("id"))) or not str(made.get("url")).startswith("http"):
            raise _unreadable()
        return made

    def upload(self, upload_id: str) -> Mapping[str, Any]:
        """Return `{status: waiting, asset_created, errored, cancelled or timed_out, asset_id?, error?}`."""
        return self._call(lambda: self._uploads.get_direct_upload(upload_id, _request_timeout=CALL_SECONDS))

    def cancel_upload(self, upload_id: str) -> None:
        """Cancel the upload, so that nothing comes of it. Raise Permanent where its film has come already."""
        self._call(lambda: self._uploads.cancel_direct_upload(upload_id, _request_timeout=CALL_SECONDS))

    def asset(self, asset_id: str) -> Mapping[str, Any]:
        """Return `{status: preparing, ready or errored, playback_ids, duration, aspect_ratio, errors?}`."""
        return self._call(lambda: self._assets.get_asset(asset_id, _request_timeout=CALL_SECONDS))

    def close(self) -> None:
        self._connections.clear()

    def _call(self, call: Callable[[], Any]) -> Mapping[str, Any]:
        from mux_python.exceptions import ApiException

        try:
            answer = call()
        except ApiException as error:
            raise _refusal(error) from None
        except urllib3.exceptions.HTTPError as error:
            raise _broken(error) from error
        except (AttributeError, TypeError, ValueError) as error:
            # What the SDK raises for an answer that is not what it expects.
            raise _unreadable() from error
        data = getattr(answer, "data", None)  # it gives None for a status that is not the documented one
        if data is None:
            raise _unreadable()
        found: Mapping[str, Any] = data.to_dict()
        return found


def _refusal(error: Any) -> DarkroomError:
    return classify_refusal(error.status or 0, error.body, error.headers or {})


def _broken(error: urllib3.exceptions.HTTPError) -> DarkroomError:
    """Return the error for a broken connection."""
    # Behind a proxy urllib3 calls every break the proxy's, also one that came after the call was sent.
    cause = error.original_error if isinstance(error, urllib3.exceptions.ProxyError) else error
    # A proxy that refuses the tunnel is a plain OSError there.
    if isinstance(cause, NewConnectionError | ConnectTimeoutError) or type(cause) is OSError:
        return Park(f"Mux cannot be reached ({type(cause).__name__})", code="unreachable")
    return Retry(f"the connection to Mux broke ({type(cause).__name__})")


def _unreadable() -> Retry:
    return Retry("Mux's answer could not be read", code="unexpected_answer")


def _connections(host: str) -> urllib3.PoolManager:
    """Open connections as httpx makes them of the environment."""
    # urllib3 repeats a call whose connection failed unless it is told otherwise: that is the ledger's business.
    options: dict[str, Any] = {"ssl_context": tls_context(), "retries": False, "maxsize": 4}
    proxy = _proxy_for(host)
    if proxy is None:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=login)
    return urllib3.ProxyManager(proxy, **options)


def _proxy_for(url: str) -> str | None:
    parts, known = urlsplit(url), getproxies()
    proxy = known.get(parts.scheme) or known.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    # httpx reads an address without a scheme so, too.
    return proxy if "://" in proxy else f"http://{proxy}"
