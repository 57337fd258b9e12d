"""Audit trails, read back as a spreadsheet or a program reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from weakref import ref

import pytest

from darkroom.batches.audit import PIECE_BYTES, AuditDelivery, AuditFile, AuditRow, as_csv, as_json_lines, audit_rows

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def call(n: int = 0, **fields: Any) -> AuditRow:
    usual: dict[str, Any] = {
        "row": n + 1,
        "id": f"sku-{n}",
        "stage": "draft",
        "job_id": f"job_{n}",
        "job_status": "completed",
        "ref": f"req_{n}",
        "step": "generate",
        "attempt": 1,
        "endpoint": "fal-ai/flux/schnell",
        "request_id": f"019e-{n}",
        "status": "succeeded",
        "input": {"prompt": 'ein "Füchslein",\nim Schnee', "seed": n},
        "estimate_usd": Decimal("0.003000"),
        "cost_usd": Decimal("0.003000"),
        "created_at": NOON,
        "granted_at": NOON + timedelta(seconds=1),
        "submitted_at": NOON + timedelta(seconds=2),
        "accepted_at": NOON + timedelta(seconds=3),
        "finished_at": NOON + timedelta(seconds=5),
        "delivered_via": "webhook",
        "deliveries": (AuditDelivery(verdict="settled", received_at=NOON + timedelta(seconds=5)),),
        "files": (
            AuditFile(
                key=f"images/usr_1/job_{n}/generate-0.jpg", sha256="ab" * 32, bytes=1234, content_type="image/jpeg"
            ),
        ),
    }
    return AuditRow(**usual | fields)


def cells(*rows: AuditRow) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(b"".join(as_csv(rows)).decode("utf-8-sig"), newline="")))


def objects(*rows: AuditRow) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(as_json_lines(rows)).decode().split("\n")[:-1]]


def test_a_call_can_be_read_back_from_json_lines() -> None:
    """Exactly as it was sent, with its times, its statuses, its webhooks and its file."""
    (found,) = objects(call(6))
    assert (found["row"], found["id"], found["request_id"]) == (7, "sku-6", "019e-6")
    assert found["input"] == {"prompt": 'ein "Füchslein",\nim Schnee', "seed": 6}
    assert (found["estimate_usd"], found["cost_usd"]) == ("0.003000", "0.003000")
    assert [each["status"] for each in found["history"]] == [
        "queued",
        "granted",
        "submitting",
        "in_flight",
        "succeeded",
    ]
    assert found["history"][-1]["at"] == found["deliveries"][0]["received_at"] == "2026-11-21T12:00:05+00:00"
    file = {
        "key": "images/usr_1/job_6/generate-0.jpg",
        "sha256": "ab" * 32,
        "bytes": 1234,
        "content_type": "image/jpeg",
    }
    assert found["files"] == [file]


def test_a_call_is_one_line_of_a_spreadsheet() -> None:
    """Also with a line break in its prompt, or with several files: the costs can be added up."""
    files = tuple(
        AuditFile(key=f"files/u/j/run-{n}", sha256=str(n) * 64, bytes=n, content_type=kind)
        for n, kind in ((1, "video/mp4"), (2, "model/gltf-binary"))
    )
    twice = (
        AuditDelivery(verdict="settled", received_at=NOON),
        AuditDelivery(verdict="duplicate", received_at=NOON + timedelta(seconds=9)),
    )
    first, second = cells(call(0), call(1, files=files, deliveries=twice))
    assert json.loads(first["input"]) == {"prompt": 'ein "Füchslein",\nim Schnee', "seed": 0}
    assert (first["row"], first["cost_usd"], first["finished_at"]) == ("1", "0.003000", "2026-11-21T12:00:05+00:00")
    assert second["file_keys"] == "files/u/j/run-1 files/u/j/run-2"
    assert (second["file_sha256"].split(), second["file_bytes"]) == (["1" * 64, "2" * 64], "1 2")
    assert second["file_types"] == "video/mp4 model/gltf-binary"
    assert second["deliveries"] == "settled 2026-11-21T12:00:00+00:00; duplicate 2026-11-21T12:00:09+00:00"


def test_a_spreadsheet_shows_its_letters() -> None:
    """By the byte order mark, once; JSON lines have none, as programs read them."""
    written = b"".join(as_csv([call(0), call(1)]))
    assert written.startswith("\ufeffrow,".encode()) and written.count("\ufeff".encode()) == 1
    assert "Füchslein" in written.decode("utf-8-sig")
    assert b"".join(as_json_lines([call()])).startswith(b"{")


def test_both_say_the_same_columns_in_the_same_order() -> None:
    """What is known comes first, where it is looked for."""
    (found,) = cells(call())
    assert list(found)[:6] == ["row", "id", "stage", "job_id", "job_status", "ref"]
    assert set(objects(call())[0]) - set(found) == {"history", "files"}
    assert set(found) - set(objects(call())[0]) == {"file_keys", "file_sha256", "file_bytes", "file_types"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", '=HYPERLINK("x")'])
def test_no_cell_is_a_formula(text: str) -> None:
    """Whoever opens the file does not run what a user, or a provider, wrote; JSON lines keep it as it is."""
    row = call(id=text, error_message=text, request_id=text)
    (found,) = cells(row)
    assert {found["id"], found["error_message"], found["request_id"]} == {f"'{text}"}
    assert objects(row)[0]["id"] == text


def test_what_is_not_known_is_left_empty() -> None:
    """A row that never came to a call is in the trail too, with its error."""
    row = AuditRow(
        row=1,
        id=None,
        stage="draft",
        job_id="job_1",
        job_status="failed",
        error_class="permanent",
        error_code="bad_input",
        error_message="seed: too large",
    )
    (found,) = cells(row)
    assert (found["ref"], found["cost_usd"], found["input"], found["created_at"]) == ("", "", "", "")
    assert (found["error_class"], found["error_code"]) == ("permanent", "bad_input")
    assert objects(row)[0]["history"] == []


def test_a_batch_without_calls_has_a_header() -> None:
    """An empty file would look like a fault."""
    assert b"".join(as_csv([])).startswith(b"\xef\xbb\xbfrow,id,stage,") and not cells()
    assert list(as_json_lines([])) == []


def test_the_ledgers_rows_become_one_for_each_call() -> None:
    """Its files are gathered, and the secret of its webhook's address stays behind."""
    base: dict[str, Any] = {
        **dict.fromkeys(("reused_from", "accepted_at", "cost_usd", "delivered_via", "request_id")),
        **{"n": 0, "name": "sku-0", "stage": "draft", "job_id": "job_0", "job_status": "completed", "job_error": None},
        **{"ref": "req_a", "step": "generate", "attempt": 1, "endpoint": "fal-ai/flux/dev", "status": "failed"},
        **{"input": {"prompt": "a fox"}, "estimate_usd": Decimal("0.025"), "token": "a-secret", "deliveries": None},
        **dict.fromkeys(("created_at", "granted_at", "submitted_at", "finished_at"), NOON),
        **{"error": {"code": "rate_limited", "class": "retry", "message": "slower"}},
        **{"asset_key": None, "sha256": None, "bytes": None, "content_type": None},
    }
    delivered = [{"verdict": "settled", "received_at": "2026-11-21T12:00:05.123456+00:00"}]
    again = base | {"ref": "req_b", "attempt": 2, "status": "succeeded", "error": None, "deliveries": delivered}
    files = [
        again
        | {
            "asset_key": f"images/u/job_0/generate-{n}.jpg",
            "sha256": "ab" * 32,
            "bytes": n,
            "content_type": "image/jpeg",
        }
        for n in (1, 2)
    ]
    nothing = dict.fromkeys(base) | {"n": 1, "stage": "draft", "job_id": "job_1", "job_status": "cancelled"}
    failed, done, never = audit_rows([base, *files, nothing])
    assert (failed.row, failed.attempt, failed.error_code, failed.files) == (1, 1, "rate_limited", ())
    assert (done.attempt, [file.bytes for file in done.files], done.error_code) == (2, [1, 2], None)
    assert done.deliveries[0].received_at == datetime(2026, 11, 21, 12, 0, 5, 123456, tzinfo=UTC)
    assert (never.row, never.ref, never.job_status, never.input) == (2, None, "cancelled", None)
    assert b"a-secret" not in b"".join(as_csv([failed, done])) + b"".join(as_json_lines([failed, done]))


@pytest.mark.parametrize("export", [as_csv, as_json_lines])
def test_many_rows_take_no_more_memory_than_a_few(export: Callable[[Iterable[AuditRow]], Iterator[bytes]]) -> None:
    """They are written while they are read, in pieces of some size, and let go of."""
    read: list[ref[AuditRow]] = []

    def many() -> Iterator[AuditRow]:
        for n in range(1_000):
            row = call(n, input={"prompt": "x" * 1000})
            read.append(ref(row))
            yield row

    written, kept, ahead = 0, 0, 0
    for piece in export(many()):
        assert len(piece) < PIECE_BYTES + 10_000
        written += len(piece)
        kept = max(kept, sum(row() is not None for row in read))
        ahead = max(ahead, 1000 * len(read) - written)
    assert written > 1_000_000 and len(read) == 1_000
    assert kept <= 2 and ahead < PIECE_BYTES
