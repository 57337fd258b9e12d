"""The audit trail of a batch: every paid call of every row, also those that failed, as CSV and as JSON lines.

The provider forgets after days; this is what remains. Rows come from the ledger one after the other and leave as pieces
of a file, so ten thousand take no more memory than a few. JSON lines are exact; CSV is for spreadsheets.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from decimal import Decimal
from io import StringIO
from itertools import groupby
from typing import Any

PIECE_BYTES = 64 * 1024
# Also as East Asian keyboards write them, and what a spreadsheet skips before it looks.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True, kw_only=True)
class AuditFile:
    """`sha256` in hex. `key`: in the media store."""

    key: str
    sha256: str
    bytes: int
    content_type: str  # as its bytes say


@dataclass(frozen=True, kw_only=True)
class AuditDelivery:
    """A webhook that came for it, and its outcome."""

    verdict: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """A paid call; a row's job that never came to one has no `ref`. In the order of the columns."""

    row: int  # from 1, as on the contact sheet
    id: str | None  # the user's own
    stage: str  # "draft" or "final"
    job_id: str
    job_status: str
    ref: str | None = None
    step: str | None = None
    attempt: int | None = None
    endpoint: str | None = None
    request_id: str | None = None  # the provider's
    status: str | None = None
    input: Mapping[str, Any] | None = None
    estimate_usd: Decimal | None = None
    cost_usd: Decimal | None = None
    reused_from: str | None = None  # whose answer served again: nothing was paid
    created_at: datetime | None = None
    granted_at: datetime | None = None
    submitted_at: datetime | None = None
    accepted_at: datetime | None = None
    finished_at: datetime | None = None
    delivered_via: str | None = None
    deliveries: tuple[AuditDelivery, ...] = ()
    error_class: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    files: tuple[AuditFile, ...] = ()

    def history(self) -> list[tuple[str, datetime]]:
        """Return the statuses that the call has gone through, each with its time."""
        times = (
            ("queued", self.created_at),
            ("granted", self.granted_at),
            ("submitting", self.submitted_at),
            ("in_flight", self.accepted_at),
            (self.status or "", self.finished_at),
        )
        return [(status, at) for status, at in times if at is not None]


def audit_rows(found: Iterable[Mapping[str, Any]]) -> Iterator[AuditRow]:
    """Yield one row for each paid call, from the ledger's rows (`Batches.audit`)."""
    # The ledger has one for each call and file. Those of a call come one after the other, or they would not be grouped.
    for _, same in groupby(found, key=lambda row: (row["job_id"], row["ref"])):
        yield _audit_row(list(same))


def as_csv(rows: Iterable[AuditRow]) -> Iterator[bytes]:
    """Write the rows as CSV, in pieces of UTF-8 with a byte order mark: `utf-8-sig` reads it back.

    A call is one line, however many files it brought: amounts can be added up.
    """
    return _pieces(_csv_lines(rows))


def as_json_lines(rows: Iterable[AuditRow]) -> Iterator[bytes]:
    """Write the rows as JSON lines, in pieces of UTF-8, an object to each line.

    Amounts are text, times ISO 8601 with their zone.
    """
    return _pieces(json.dumps(_document(row), ensure_ascii=False, default=_plain) + "\n" for row in rows)


_TEXTS = ("step", "attempt", "endpoint", "request_id", "status", "input", "delivered_via", "reused_from")
_TIMES = ("created_at", "granted_at", "submitted_at", "accepted_at", "finished_at")
_AMOUNTS = ("estimate_usd", "cost_usd")


def _audit_row(same: list[Mapping[str, Any]]) -> AuditRow:
    first = same[0]
    # A row that never came to a call has its job's error.
    error = first["error"] or first["job_error"] or {}
    called = first["ref"] is not None
    return AuditRow(
        row=first["n"] + 1,
        id=first["name"],
        stage=first["stage"],
        job_id=first["job_id"],
        job_status=first["job_status"],
        ref=first["ref"],
        **{name: first[name] for name in (*_TEXTS, *_TIMES, *_AMOUNTS) if called},
        deliveries=tuple(_delivery(each) for each in first["deliveries"] or ()),
        error_class=error.get("class"),
        error_code=error.get("code"),
        error_message=error.get("message"),
        files=tuple(_file(each) for each in same if each["asset_key"] is not None),
    )


def _delivery(found: Mapping[str, Any]) -> AuditDelivery:
    return AuditDelivery(verdict=found["verdict"], received_at=datetime.fromisoformat(found["received_at"]))


def _file(found: Mapping[str, Any]) -> AuditFile:
    return AuditFile(**{name: found[name] for name in ("sha256", "bytes", "content_type")}, key=found["asset_key"])


def _document(row: AuditRow) -> dict[str, Any]:
    """Convert the row to an object as JSON has it, with the history of its status."""
    document = {each.name: getattr(row, each.name) for each in fields(AuditRow)}
    return document | {
        "history": [{"status": status, "at": at} for status, at in row.history()],
        "deliveries": [{"verdict": each.verdict, "received_at": each.received_at} for each in row.deliveries],
        "files": [asdict(each) for each in row.files],
    }


def _csv_lines(rows: Iterable[AuditRow]) -> Iterator[str]:
    out = StringIO()
    # Excel takes UTF-8 without a byte order mark for something else.
    out.write("\ufeff")
    writer = csv.writer(out)  # RFC 4180: commas, CRLF
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(read(row)) for read in _COLUMNS.values()])
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()  # the header, where there was no row


def _pieces(lines: Iterable[str]) -> Iterator[bytes]:
    piece = bytearray()
    for line in lines:
        piece += line.encode()
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            # Whoever opens the file does not run what a user, or a provider, wrote.
            return f"'{value}" if value.startswith(FORMULA) else value
        case Mapping():
            return json.dumps(value, ensure_ascii=False)
        case Decimal() | datetime():
            return _plain(value)
        case _:
            return str(value)


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        # As text, and never 1E-7: exact, and read as a number everywhere.
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an audit trail")


def _column(name: str) -> Callable[[AuditRow], object]:
    return lambda row: getattr(row, name)


def _columns() -> dict[str, Callable[[AuditRow], object]]:
    """Map each column of the CSV to what reads it from a row."""
    own = {each.name: _column(each.name) for each in fields(AuditRow) if each.name not in ("deliveries", "files")}
    return own | {
        "deliveries": lambda row: "; ".join(f"{each.verdict} {_plain(each.received_at)}" for each in row.deliveries),
        # All files of a call in one line, so that its cost is added up once. Divided by blanks: keys have none.
        "file_keys": lambda row: " ".join(each.key for each in row.files),
        "file_sha256": lambda row: " ".join(each.sha256 for each in row.files),
        "file_bytes": lambda row: " ".join(str(each.bytes) for each in row.files),
        "file_types": lambda row: " ".join(each.content_type for each in row.files),
    }


_COLUMNS = _columns()
