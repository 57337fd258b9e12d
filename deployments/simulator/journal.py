"""The book on disk: a line for each thing that happens, so that one who was killed goes on where it was, as fal does.

At each start the file is written anew, without what nobody will ask about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from .book import ACCOUNTS, Delivery, Entry, Outcome
from .faults import Faults
from .private_files import open_to_append, replace_content

_ENDED_THAT_ARE_KEPT = 1000  # the older ones nobody asks about, and each start would read all of them
_USER_IDS = {account.user_id: account for account in ACCOUNTS.values()}

Line = dict[str, Any]


class Journal:
    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open_to_append(path)  # privately: prompts are in it

    def close(self) -> None:
        self._file.close()

    def write(self, line: Mapping[str, Any]) -> None:
        # In one call, and unbuffered: from then on it is the kernel's, and what ends the process takes nothing away.
        self._file.write(json.dumps(line).encode() + b"\n")

    def read(self) -> Iterator[Line]:
        for line in self._path.read_bytes().split(b"\n"):
            try:
                yield json.loads(line)
            except ValueError:
                continue  # the last line may be cut off

    def write_anew(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self._file.close()
        replace_content(self._path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        self._file = open_to_append(self._path)


def accepted(entry: Entry) -> Line:
    return {
        "is": "accepted",
        "id": entry.request_id,
        "endpoint": entry.endpoint,
        "input": entry.input,
        "user_id": entry.account.user_id,
        "key": entry.key,
        "webhook_url": entry.webhook_url,
        "faults": entry.faults.model_dump(mode="json", exclude_defaults=True),
        "file_lifetime_seconds": entry.file_lifetime_seconds,
        "file_access": entry.file_access,
        "gateway_request_id": entry.gateway_request_id,
        "submitted_at": entry.submitted_at.isoformat(),
        "start_by": entry.start_by and entry.start_by.isoformat(),
    }


def started(entry: Entry) -> Line:
    return {"is": "started", "id": entry.request_id, "at": entry.started_at and entry.started_at.isoformat()}


def changed(entry: Entry) -> Line:
    """Return what an operator, or the client by a cancel, has changed of a request under way."""
    faults = entry.faults.model_dump(mode="json", exclude_defaults=True)
    return {
        "is": "changed",
        "id": entry.request_id,
        "faults": faults,
        "released": entry.released.is_set(),
        "cancel_requested": entry.cancel_requested,
        "payloads": [entry.payloads_kept, entry.payloads_deleted],
        "try": [entry.gateway_request_id, entry.retries],
    }


def finished(entry: Entry) -> Line:
    return {
        "is": "finished",
        "id": entry.request_id,
        "at": entry.finished_at and entry.finished_at.isoformat(),
        "outcome": entry.outcome and asdict(entry.outcome),
        "seconds": entry.seconds,
        "files_read": entry.files_read,
        "outputs": entry.outputs,
    }


def announced(entry: Entry) -> Line:
    """Return that no webhook of it is to be sent any more."""
    deliveries = [{**asdict(each), "at": each.at.isoformat()} for each in entry.deliveries]
    return {"is": "announced", "id": entry.request_id, "deliveries": deliveries}


def storage_set(user_id: str, settings: Mapping[str, Any] | None) -> Line:
    """Return what an account has set for its files. None: nothing any more."""
    return {"is": "storage", "user_id": user_id, "settings": settings}


def storage_in(lines: Iterable[Line]) -> dict[str, dict[str, Any]]:
    """Return the settings that were made last, by user."""
    last = {line["user_id"]: line["settings"] for line in lines if line.get("is") == "storage"}
    return {user_id: settings for user_id, settings in last.items() if settings is not None}


def entries_in(lines: Iterable[Line]) -> list[Entry]:
    """Return the requests that are on record there, oldest first: all that are under way, and the last that ended."""
    entries: dict[str, Entry] = {}
    for line in lines:
        if line.get("is") == "accepted":
            entries[line["id"]] = _accepted(line)
        # Lines of files and settings name no request; others read them.
        elif (entry := entries.get(line.get("id", ""))) is not None:
            _APPLIED[line["is"]](entry, line)
    # Of one that is not announced yet a webhook is still due.
    over = [entry.request_id for entry in entries.values() if entry.outcome and entry.is_announced]
    for request_id in over[:-_ENDED_THAT_ARE_KEPT]:
        del entries[request_id]
    return list(entries.values())


def lines_of(entry: Entry) -> Iterator[Line]:
    """Yield what is to be known of a request, from its acceptance to its end."""
    yield accepted(entry)
    if entry.started_at:
        yield started(entry)
    yield changed(entry)
    if entry.outcome:
        yield finished(entry)
    if entry.is_announced:
        yield announced(entry)


def _accepted(line: Line) -> Entry:
    return Entry(
        request_id=line["id"],
        endpoint=line["endpoint"],
        input=line["input"],
        account=_USER_IDS[line["user_id"]],
        key=line["key"],
        webhook_url=line["webhook_url"],
        faults=Faults(**line["faults"]),
        file_lifetime_seconds=line["file_lifetime_seconds"],
        file_access=line["file_access"],
        gateway_request_id=line["gateway_request_id"],
        submitted_at=datetime.fromisoformat(line["submitted_at"]),
        start_by=_time(line["start_by"]),
    )


def _start(entry: Entry, line: Line) -> None:
    entry.started_at = _time(line["at"])


def _change(entry: Entry, line: Line) -> None:
    entry.faults = Faults(**line["faults"])
    entry.cancel_requested = line["cancel_requested"]
    entry.payloads_kept, entry.payloads_deleted = line["payloads"]
    # A journal of before tries were counted has no word of them.
    entry.gateway_request_id, entry.retries = line.get("try", (entry.gateway_request_id, entry.retries))
    if line["released"]:
        entry.released.set()


def _finish(entry: Entry, line: Line) -> None:
    entry.seconds, entry.files_read, entry.outputs = line["seconds"], line["files_read"], line["outputs"]
    entry.finish(Outcome(**line["outcome"]), at=_time(line["at"]))


def _announce(entry: Entry, line: Line) -> None:
    entry.deliveries = [Delivery(**{**each, "at": datetime.fromisoformat(each["at"])}) for each in line["deliveries"]]
    entry.is_announced = True
    entry.announced.set()


_APPLIED = {"started": _start, "changed": _change, "finished": _finish, "announced": _announce}


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
