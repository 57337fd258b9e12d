"""How fal's answers are read. The queue is a handler function at the transport; the bytes are as fal sends them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from darkroom.errors import DarkroomError, OutOfMoney, Park, Permanent, RateLimited, Retry, SubmitUnknown
from darkroom.ledger import Request
from darkroom.providers.fal import Fal, FalAccount, Submitted
from darkroom.providers.fal.provider import FalProvider
from darkroom.providers.pairing import Sent
from darkroom.providers.prefect_blocks import block_class
from darkroom.timing import UNSCALED

DEV = "fal-ai/flux/dev"
ID = "019e1951-aaaa-7bbb-8ccc-ddddeeeeffff"
BASE = f"https://queue.fal.run/fal-ai/flux/requests/{ID}"
NGINX = "<html><center>nginx</center></html>"
OWN = {"x-fal-request-id": ID}


class Queue:
    """Answers in turn, the last one again and again; keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | type[httpx.TransportError]) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers[min(len(self.asked), len(self._answers)) - 1]
        if isinstance(answer, httpx.Response):
            return answer
        raise answer("as on the wire", request=request)

    def client(self) -> Fal:
        return Fal("id:secret\n", transport=httpx.MockTransport(self))

    def submit(self, webhook_url: str | None = None) -> Submitted:
        with self.client() as fal:
            return fal.submit(DEV, {"prompt": "a fox"}, webhook_url=webhook_url, start_timeout=timedelta(minutes=10))


def answer(status: int, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    if isinstance(body, str):
        return httpx.Response(status, text=body, headers=headers)
    return httpx.Response(status, json=body, headers=headers)


def failure(call: Callable[[], object]) -> DarkroomError:
    with pytest.raises(DarkroomError) as caught:
        call()
    return caught.value


def test_a_submit_is_one_post_of_the_models_input() -> None:
    """Key, start time-out and the webhook's URL go where fal documents them; the token in the URL survives."""
    queue = Queue(answer(200, {"request_id": ID, "gateway_request_id": "g-1", "status": "IN_QUEUE"}))
    url = "https://media.example.com/webhooks/fal?token=a+b&c=d/e"
    assert queue.submit(url) == Submitted(request_id=ID, gateway_request_id="g-1")
    (request,) = queue.asked
    assert (request.method, request.url.copy_with(query=None)) == ("POST", f"https://queue.fal.run/{DEV}")
    assert request.url.params["fal_webhook"] == url
    assert request.headers["authorization"] == "Key id:secret"
    assert request.headers["x-fal-request-timeout"] == "600.0"
    assert json.loads(request.content) == {"prompt": "a fox"}


@pytest.mark.parametrize(("factor", "seconds"), [(1, "600.0"), (0.1, "60.0"), (0.001, "1.1")])
def test_the_start_timeout_is_scaled_down_to_what_fal_takes(factor: float, seconds: str) -> None:
    """It is waited for by us, so it is as much shorter as everything that is."""
    queue = Queue(answer(200, {"request_id": ID}))
    with queue.client() as fal:
        row = Request.model_construct(endpoint=DEV)
        FalProvider(fal, timing=UNSCALED.scaled(factor)).submit(row, {"prompt": "a fox"}, webhook_url=None)
    assert queue.asked[0].headers["x-fal-request-timeout"] == seconds


@pytest.mark.parametrize("factor", [1, 0.2, 0.01])
def test_a_post_has_ended_before_its_row_is_taken_for_lost(factor: float) -> None:
    """At any scale, as its own time is fal's and is not scaled."""
    queue = Queue(answer(200, {"request_id": ID}, OWN))
    queue.submit()
    assert max(queue.asked[0].extensions["timeout"].values()) < UNSCALED.scaled(factor).submit_limit.total_seconds()


def test_what_comes_of_a_submit_is_public_only_as_long_as_is_said() -> None:
    """fal keeps files for ever unless it is told otherwise, and a LoRA may be somebody's face."""
    queue = Queue(answer(200, {"request_id": ID}))
    with queue.client() as fal:
        fal.submit(DEV, {}, webhook_url=None, start_timeout=timedelta(minutes=10), outputs_last=timedelta(hours=24))
    asked = json.loads(queue.asked[0].headers["x-fal-object-lifecycle-preference"])
    assert asked == {"expiration_duration_seconds": 86400}


def test_without_a_webhook_none_is_asked_for() -> None:
    """Polling needs no query."""
    queue = Queue(answer(200, {"request_id": ID}))
    assert queue.submit() == Submitted(request_id=ID)
    assert not queue.asked[0].url.query


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (answer(429, {"detail": "slow down"}, {"Retry-After": "3"}), RateLimited, "rate_limited"),
        (answer(401, {"detail": "who?"}), Permanent, "unauthorized"),
        (answer(403, {"detail": "User is locked. Reason: Exhausted balance."}), OutOfMoney, "balance_exhausted"),
        (answer(404, {"detail": "no such app"}), Permanent, "not_found"),
        (answer(422, {"detail": [{"loc": ["body"], "msg": "bad", "type": "missing"}]}), Permanent, "missing"),
        (answer(500, {"detail": "x", "error_type": "internal_error"}, OWN), Retry, "internal_error"),
        (answer(504, {"detail": "x"}, OWN), Retry, "transient"),
        (answer(503, NGINX), Park, "provider_down"),
        (httpx.ConnectError, Park, "unreachable"),
        (httpx.ConnectTimeout, Park, "unreachable"),
        (httpx.ProxyError, Park, "unreachable"),
        (httpx.PoolTimeout, Retry, "transient"),
    ],
)
def test_a_sure_refusal_says_what_to_do_next(
    refusal: httpx.Response | type[httpx.TransportError], kind: type[DarkroomError], code: str
) -> None:
    """No job was made, so the row may go back to the queue or fail; still only one POST was sent."""
    queue = Queue(refusal)
    error = failure(queue.submit)
    assert (type(error), error.code, len(queue.asked)) == (kind, code, 1)


@pytest.mark.parametrize(
    "answered",
    [
        httpx.ReadTimeout,
        httpx.ReadError,
        httpx.WriteError,
        httpx.WriteTimeout,
        httpx.RemoteProtocolError,
        answer(500, {"detail": "somebody's error"}),
        answer(502, NGINX),
        answer(504, NGINX),
        answer(503, "<html>another proxy</html>"),
        answer(302, ""),
        answer(200, "<html>a captive portal</html>"),
        answer(200, {"request_id": None}),
        answer(200, {"request_id": "../../etc"}),
        answer(200, []),
        answer(200, '{"request_id": "019e'),
    ],
)
def test_anything_else_may_have_made_a_job(answered: httpx.Response | type[httpx.TransportError]) -> None:
    """A lost answer is unknown, and is never repeated here."""
    queue = Queue(answered)
    assert type(failure(queue.submit)) is SubmitUnknown
    assert len(queue.asked) == 1


@pytest.mark.parametrize(
    ("http_status", "body", "state", "position"),
    [
        (202, {"status": "IN_QUEUE", "queue_position": 3}, "IN_QUEUE", 3),
        (200, {"status": "IN_QUEUE"}, "IN_QUEUE", None),
        (202, {"status": "IN_PROGRESS", "logs": None}, "IN_PROGRESS", None),
        (200, {"status": "COMPLETED"}, "COMPLETED", None),
        (404, {"status": "NOT_FOUND"}, "NOT_FOUND", None),
    ],
)
def test_the_status_of_a_request_is_read(
    http_status: int, body: dict[str, Any], state: str, position: int | None
) -> None:
    """200 and 202 alike, with whatever fields are there, at the short address of the app."""
    queue = Queue(answer(http_status, body))
    with queue.client() as fal:
        status = fal.status(DEV, ID)
    assert (status.state, status.queue_position, status.logs) == (state, position, ())
    assert str(queue.asked[0].url) == f"{BASE}/status?logs=1"


def test_a_requests_log_comes_through() -> None:
    """Where fal gives it; whether it went well, the result alone tells."""
    body = {"status": "COMPLETED", "logs": [{"message": "hi"}], "error": "late", "error_type": "request_timeout"}
    with Queue(answer(200, body)).client() as fal:
        assert fal.status(DEV, ID).logs == ({"message": "hi"},)


@pytest.mark.parametrize("body", ["<html>", [], {}, {"status": "DREAMING"}])
def test_a_status_nobody_documented_is_asked_again(body: Any) -> None:
    """New words and foreign pages are no reason to give a request up."""
    with Queue(answer(200, body)).client() as fal:
        assert failure(lambda: fal.status(DEV, ID)).code == "unexpected_answer"


def test_a_page_that_says_404_does_not_lose_a_request() -> None:
    """Only the queue's own JSON can say that a request does not exist."""
    with Queue(answer(404, "<html>not here</html>")).client() as fal:
        assert failure(lambda: fal.confirm(DEV, ID)).kind == "retry"
        assert failure(lambda: fal.status(DEV, ID)).kind == "retry"
        assert failure(lambda: fal.result(DEV, ID)).kind == "retry"


@pytest.mark.parametrize(
    ("header", "units"), [("3", Decimal(3)), ("0.5", Decimal("0.5")), (None, None), ("NaN", None), ("-1", None)]
)
def test_a_result_comes_with_its_billed_units(header: str | None, units: Decimal | None) -> None:
    """The header is only on this GET; nonsense in it counts as absent."""
    headers = {"x-fal-billable-units": header} if header else {}
    queue = Queue(answer(200, {"images": []}, headers))
    with queue.client() as fal:
        result = fal.result(DEV, ID)
    assert (result.output, result.billable_units) == ({"images": []}, units)
    assert str(queue.asked[0].url) == BASE


def test_a_rejection_is_quoted_without_the_prompt_anywhere() -> None:
    """Neither in the message nor in what a logged traceback would show."""
    item = {"loc": ["body", "prompt"], "msg": "flagged", "type": "content_policy_violation", "input": "a secret fox"}
    with Queue(answer(422, {"detail": [item]}, OWN)).client() as fal:
        error = failure(lambda: fal.result(DEV, ID))
    assert (type(error), error.code, error.message) == (Permanent, "content_policy_violation", "prompt: flagged")
    assert error.__cause__ is None


def test_a_result_that_is_not_ready_is_asked_for_again() -> None:
    """In progress is its own code, so that a poller can tell."""
    with Queue(answer(400, {"detail": "Request is still in progress"})).client() as fal:
        assert failure(lambda: fal.result(DEV, ID)).code == "in_progress"


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (answer(202, {"status": "CANCELLATION_REQUESTED"}), "requested"),
        (answer(200, {"success": True}), "requested"),
        (answer(400, {"status": "ALREADY_COMPLETED"}), "already_completed"),
        (answer(404, {"status": "NOT_FOUND"}), "not_found"),
    ],
)
def test_a_cancel_has_three_outcomes(answered: httpx.Response, outcome: str) -> None:
    """Asked for, too late, or unknown."""
    queue = Queue(answered)
    with queue.client() as fal:
        assert fal.cancel(DEV, ID) == outcome
    assert (queue.asked[0].method, str(queue.asked[0].url)) == ("PUT", f"{BASE}/cancel")


def test_reading_calls_survive_one_broken_connection() -> None:
    """A connection closed under a GET is not worth a failure; two in a row are a Retry."""
    queue = Queue(httpx.RemoteProtocolError, answer(200, {"status": "COMPLETED"}))
    with queue.client() as fal:
        assert fal.status(DEV, ID).state == "COMPLETED"
    broken = Queue(httpx.ReadError)
    with broken.client() as fal:
        assert type(failure(lambda: fal.status(DEV, ID))) is Retry
    assert len(broken.asked) == 2


def test_an_unreachable_fal_parks() -> None:
    """No connection at all is an outage, not a failure of this request."""
    with Queue(httpx.ConnectError).client() as fal:
        for call in (fal.status, fal.result, fal.cancel, fal.confirm):
            assert type(failure(lambda call=call: call(DEV, ID))) is Park  # type: ignore[misc]


@pytest.mark.parametrize(
    ("answered", "ours"),
    [
        (answer(202, {"status": "IN_QUEUE"}), True),
        (answer(200, {"status": "COMPLETED"}), True),
        (answer(404, {"status": "NOT_FOUND"}), False),
    ],
)
def test_a_request_is_confirmed_with_one_get(answered: httpx.Response, ours: bool) -> None:
    """Found with our key, it is ours; not found, it is not."""
    queue = Queue(answered)
    with queue.client() as fal:
        assert fal.confirm(DEV, ID) is ours
    assert len(queue.asked) == 1


@pytest.mark.parametrize(
    ("answered", "kind"),
    [
        (answer(401, {"detail": "who?"}), Retry),
        (answer(500, {"detail": "x"}, OWN), Retry),
        (answer(429, {}), RateLimited),
        (answer(503, NGINX), Park),
        (answer(200, "<html>"), Retry),
        (httpx.ReadTimeout, Retry),
    ],
)
def test_a_doubtful_confirmation_is_neither_yes_nor_no(
    answered: httpx.Response | type[httpx.TransportError], kind: type[DarkroomError]
) -> None:
    """Whatever stands in the way, the sender is to come again; one try, as it is waiting."""
    queue = Queue(answered)
    with queue.client() as fal:
        assert type(failure(lambda: fal.confirm(DEV, ID))) is kind
    assert len(queue.asked) == 1


@pytest.mark.parametrize("request_id", ["", "..", "a/b", "a?b", "a b", "-x", "é", "x" * 129])
def test_an_id_that_could_lead_elsewhere_is_never_put_into_a_url(request_id: str) -> None:
    """Ids come from outside; only plain ones make an address."""
    queue = Queue(answer(200, {"status": "COMPLETED"}))
    with queue.client() as fal:
        for call in (fal.status, fal.result, fal.cancel, fal.confirm):
            assert failure(lambda call=call: call(DEV, request_id)).code == "not_found"  # type: ignore[misc]
    assert not queue.asked


def test_the_account_block_hides_its_key() -> None:
    """A secret in Prefect's UI and in representations, plain only inside the client."""
    account = FalAccount(key="id:secret")
    assert block_class(FalAccount).get_block_type_slug() == FalAccount.slug().partition("/")[0] == "fal-account"
    assert "secret" not in repr(account)
    account.client().close()


# -- what was sent ---------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def item(**changes: Any) -> dict[str, Any]:
    return {"request_id": ID, "sent_at": "2026-11-20T12:00:01Z", "json_input": {"prompt": "a fox"}} | changes


def sent_since_noon(queue: Queue) -> list[Sent] | None:
    with queue.client() as fal:
        return fal.sent(DEV, since=NOON, until=NOON + timedelta(seconds=40), now=NOON + timedelta(minutes=9))


def test_the_list_of_what_was_sent_is_read_page_by_page() -> None:
    """With payloads, in the time asked for; items that lack what they are known by are left out."""
    odd = [item(json_input=None), item(request_id="../x"), item(sent_at="noon"), item(sent_at=None), "x"]
    more = {"items": [item()], "next_cursor": "c-1", "has_more": True}
    queue = Queue(answer(200, more), answer(200, {"items": [*odd, item(request_id="r-2")], "next_cursor": None}))
    found = sent_since_noon(queue)
    assert found is not None
    assert [each.request_id for each in found] == [ID, "r-2"]
    assert found[0] == Sent(request_id=ID, sent_at=NOON + timedelta(seconds=1), input={"prompt": "a fox"})
    first, second = (request.url.params for request in queue.asked)
    assert (first["endpoint_id"], first["expand"], first["start"]) == (DEV, "payloads", "2026-11-20T12:00:00+00:00")
    assert ("cursor" in first, second["cursor"]) == (False, "c-1")
    assert first["end"] == second["end"] == "2026-11-20T12:09:00+00:00"


def test_the_list_is_asked_for_until_now_and_held_against_the_time_of_sending() -> None:
    """It may go by the end of requests: what was sent at another time is left out, what moved to the next page too."""
    late, early = (
        item(request_id="late", sent_at="2026-11-20T12:00:41Z"),
        item(request_id="early", sent_at="2026-11-20"),
    )
    more = {"items": [late, item(request_id="r-1"), item()], "next_cursor": "Mg==", "has_more": True}
    queue = Queue(answer(200, more), answer(200, {"items": [item(), early], "next_cursor": None, "has_more": False}))
    assert [each.request_id for each in sent_since_noon(queue) or ()] == ["r-1", ID]


def test_nothing_to_list_is_no_refusal() -> None:
    """The platform's own word for it is a 404 as well."""
    nothing = {"error": {"type": "not_found", "message": "No requests"}}
    assert sent_since_noon(Queue(answer(404, nothing))) == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_key_that_may_not_read_the_list_is_no_failure(status: int) -> None:
    """There is no look-up then."""
    assert sent_since_noon(Queue(answer(status, {"detail": "Forbidden"}))) is None


def test_a_list_without_end_is_not_believed_in_part() -> None:
    """What is further down might be another row's."""
    assert (
        failure(lambda: sent_since_noon(Queue(answer(200, {"items": [], "next_cursor": "c"})))).code == "list_too_long"
    )
