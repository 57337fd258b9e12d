"""A failed job is tried with other code, on a real ledger: what would become of it, and that nothing does.

The code that failed is `before`, what it was replaced by is in each test. The provider would answer; it is not asked.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from echoing import (
    ECHO,
    Echo,
    EchoProvider,
    echoed,
    new_job,
    picture,
    until_it_has_come,
)
from echoing import resources as resources
from ledger_databases import Db

from darkroom import Call, Inference, Sleep, Waiting, build_request
from darkroom import Job as JobCall
from darkroom.engine.dry_run import DryRunResult, Verdict, dry_run
from darkroom.engine.dry_run.job import How
from darkroom.engine.dry_run.resources import only_to_read
from darkroom.engine.resources import Resources, current
from darkroom.errors import DarkroomError, NeedsHuman, Permanent, Retry
from darkroom.ledger import Job, JobStatus, Ledger, Outcome, Request, RequestSpec, Transition
from darkroom.providers import models as catalogue

Function = Callable[[JobCall], Any]


class Elsewhere(Echo):
    """One whose file lies with the provider."""

    endpoint = "test/elsewhere"


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> EchoProvider:
    models = {each.endpoint: each for each in (Echo(), Elsewhere())}
    known = {**catalogue.all_models(), **models}
    monkeypatch.setattr(catalogue, "all_models", lambda: known)
    return EchoProvider()


@pytest.fixture
def failed(resources: Resources, ann: str) -> Callable[[Function], Job]:
    """A job of ann's that failed by that code."""

    def fail(function: Function) -> Job:
        job = new_job(resources.ledger, ann)
        with pytest.raises(Exception) as failure:
            until_it_has_come(resources, job.id, function)
        raised = failure.value
        ours = (
            raised if isinstance(raised, DarkroomError) else DarkroomError(type(raised).__name__, code="internal_error")
        )
        resources.ledger.jobs.finish(job.id, JobStatus.FAILED, error=ours.document())
        found = resources.ledger.jobs.get(job.id)
        assert found is not None
        return found

    return fail


@pytest.fixture
def tried(
    resources: Resources, provider: EchoProvider, db: Db, ledger_url: str, tmp_path: Path
) -> Iterator[Callable[[Job, Function], DryRunResult]]:
    """What a dry run says; afterwards nothing has changed, and nothing was sent."""
    with closing(Ledger(ledger_url, read_only=True)) as ledger:
        read_only = only_to_read(resources.settings, ledger, resources.store)

        def try_out(job: Job, function: Function) -> DryRunResult:
            before = _everything(db, tmp_path), len(provider.sent)
            said = dry_run(read_only, job.id, code=lambda *_: function)
            assert (_everything(db, tmp_path), len(provider.sent)) == before
            return said

        yield try_out


def _everything(db: Db, folder: Path) -> list[str]:
    """A hash of each table, and of each file of the media store."""
    tables = db.execute("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    hashed = "SELECT '{0}' AS name, md5(string_agg(t::text, '|' ORDER BY t::text)) FROM \"{0}\" AS t"
    of_tables = [str(db.execute(hashed.format(table["name"])).fetchone()) for table in tables]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return of_tables + [f"{path} {hashlib.md5(path.read_bytes()).hexdigest()}" for path in files]


def echo(job: JobCall, *, step: str = "echo", **arguments: Any) -> Inference:
    return job.infer(ECHO, arguments, step=step)


def before(job: JobCall) -> Any:
    """Whose post-processing is broken."""
    made = job.store(echo(job, prompt="a fox"))[0]
    job.make("small", lambda: made.no_such_field.encode())
    return {"done": True}


def refused(provider: EchoProvider, error: DarkroomError, *, only: str = "") -> None:
    """From now on the provider refuses calls with that prompt."""

    def answer(row: Request, input: Mapping[str, Any]) -> Outcome:
        if only in str(input.get("prompt")):
            raise error
        return echoed(input)

    provider.answer = answer


NO = Permanent("No.", code="content_policy")
BUSY = Permanent("Busy.", code="busy")


def test_a_job_whose_post_processing_is_mended_completes(failed: Any, tried: Any) -> None:
    """What is made is made and verified, and what reads it gets it; nothing is to be paid."""

    def mended(job: JobCall) -> Any:
        made = job.store(echo(job, prompt="a fox"))[0]
        small = job.make("small", lambda: job.read(made))
        return job.make("smaller", lambda: job.read(job.asset(small.id)))

    job = failed(before)
    said = tried(job, mended)
    assert (said.verdict, said.asks, said.price_usd) == (Verdict.COMPLETES, (), 0)
    assert said.was is not None and said.was["code"] == "internal_error"


def test_a_job_whose_code_is_as_it_was_fails_the_same(failed: Any, tried: Any) -> None:
    """By its own mistake."""
    said = tried(failed(before), before)
    assert (said.verdict, said.error["message"]) == (Verdict.FAILS_THE_SAME, "AttributeError")


def test_a_fix_that_breaks_something_else_is_told(failed: Any, tried: Any) -> None:
    """With the step: what it makes is not what it says."""

    def worse(job: JobCall) -> Any:
        job.store(echo(job, prompt="a fox"))
        return job.make("small", lambda: b"no picture")

    said = tried(failed(before), worse)
    assert said.verdict is Verdict.FAILS_OTHERWISE
    assert said.error["step"] == "small" and said.error["code"] != said.was["code"]


def test_what_comes_after_a_mended_step_is_listed_with_its_price(failed: Any, tried: Any) -> None:
    """And there it ends: nobody knows the answer."""

    def goes_on(job: JobCall) -> Any:
        made = job.store(echo(job, prompt="a fox"))[0]
        small = job.make("small", lambda: job.read(made))
        job.start(ECHO, {"image": small}, step="larger")
        job.start(ECHO, {"image": small}, step="marked")
        return job.wait_all("larger", "marked")

    said = tried(failed(before), goes_on)
    assert (said.verdict, said.price_usd) == (Verdict.PAYS, Decimal("0.02"))
    assert [(ask.step, ask.how) for ask in said.asks] == [("larger", How.FIRST), ("marked", How.FIRST)]


def ask_for(prompt: str, **more: Any) -> Function:
    return lambda job: echo(job, prompt=prompt, **more)


def test_what_was_refused_and_is_asked_again_fails_the_same(failed: Any, tried: Any, provider: EchoProvider) -> None:
    """By the provider's recorded words, and with the price of asking."""
    refused(provider, NO)
    said = tried(failed(ask_for("a fox")), ask_for("a fox"))
    (ask,) = said.asks
    assert (said.verdict, ask.how, ask.refused) == (Verdict.FAILS_THE_SAME, How.AGAIN, "content_policy")
    assert said.error["message"] == "No." and said.price_usd == Decimal("0.01")


def test_what_was_refused_and_is_asked_otherwise_may_pass(failed: Any, tried: Any, provider: EchoProvider) -> None:
    """The fields that differ are named."""
    refused(provider, NO)
    said = tried(failed(ask_for("a fox", seed=1)), ask_for("a vixen", size=3, seed=1))
    (ask,) = said.asks
    assert (said.verdict, ask.how, ask.changed) == (Verdict.PAYS, How.OTHERWISE, ("prompt", "size"))


@pytest.mark.parametrize("error", [Retry("Busy.", code="busy"), NeedsHuman("Top it up.", code="no_balance")])
def test_what_may_pass_is_asked_again(
    failed: Any, tried: Any, provider: EchoProvider, db: Db, resources: Resources, ann: str, error: DarkroomError
) -> None:
    """The provider was busy, or a person has seen to it meanwhile."""
    job = new_job(resources.ledger, ann)
    resources.ledger.requests.reserve_all(job.id, [build_request(ECHO, {"prompt": "a fox"}, step="echo")])
    (row,) = resources.ledger.requests.of_job(job.id)
    db.execute("UPDATE request SET status = 'failed', finished_at = now() WHERE ref = %s", (row.ref,))
    document = error.of(step="echo", ref=row.ref).document()
    db.execute("UPDATE request SET error = %s::jsonb WHERE ref = %s", (json.dumps(document), row.ref))
    resources.ledger.jobs.finish(job.id, JobStatus.FAILED, error=document)
    said = tried(job, ask_for("a fox"))
    assert (said.verdict, [ask.refused for ask in said.asks]) == (Verdict.PAYS, [None])


def test_a_refusal_beside_other_calls_is_the_jobs_end_and_they_are_paid(
    failed: Any, tried: Any, provider: EchoProvider
) -> None:
    """As in a run: all are under way before the refusal comes back."""
    refused(provider, NO, only="bear")

    def both(job: JobCall) -> Any:
        job.start(ECHO, {"prompt": "a bear"}, step="bear")
        job.start(ECHO, {"prompt": "a fox", "n": job.parameters.get("n", 2)}, step="fox")
        return job.wait_all("bear", "fox")

    def only_a_bear(job: JobCall) -> Any:
        return job.infer(ECHO, {"prompt": "a bear"}, step="bear")

    said = tried(failed(only_a_bear), both)
    assert (said.verdict, [ask.step for ask in said.asks]) == (Verdict.FAILS_THE_SAME, ["bear", "fox"])


def test_one_of_many_that_is_refused_again_is_the_functions_to_judge(
    failed: Any, tried: Any, provider: EchoProvider
) -> None:
    """Today's code goes on without it: it completes, and the call is made once more."""
    refused(provider, NO, only="bear")

    def each(job: JobCall) -> list[Any]:
        calls = [Call(step=name, endpoint=ECHO, arguments={"prompt": name}) for name in ("a bear", "a fox")]
        return [came for _, came in job.each(calls)]

    def all_of_them(job: JobCall) -> Any:
        for came in each(job):
            if isinstance(came, DarkroomError):
                raise came

    def some_of_them(job: JobCall) -> Any:
        return {"came": sum(isinstance(came, Inference) for came in each(job))}

    job = failed(all_of_them)
    assert tried(job, all_of_them).verdict is Verdict.FAILS_THE_SAME
    said = tried(job, some_of_them)
    assert (said.verdict, [ask.step for ask in said.asks]) == (Verdict.COMPLETES, ["a bear"])


def test_a_file_that_lies_with_the_provider_is_not_fetched(failed: Any, tried: Any, provider: EchoProvider) -> None:
    """What comes after it cannot be told."""
    url = "https://v3.fal.media/files/fox.png"
    provider.answer = lambda *_: Outcome(
        transition=echoed({}).transition, output={"image": {"url": url}}, cost_usd=Decimal("0.01")
    )

    def unstored(job: JobCall) -> Any:
        job.infer("test/elsewhere", {}, step="echo")
        raise Permanent("It was refused.", code="file_refused")

    def stores(job: JobCall) -> Any:
        return job.make("small", lambda: job.read(job.store(job.infer("test/elsewhere", {}, step="echo"))[0]))

    said = tried(failed(unstored), stores)
    assert (said.verdict, said.why) == (Verdict.CANNOT_TELL, "it would fetch the file of 'echo'")


def _fetches(_: JobCall) -> Any:
    return httpx.get("http://127.0.0.1:9/")


def _stores(_: JobCall) -> Any:
    return current().store.write("images/fox.png", picture())


def _writes(job: JobCall) -> Any:
    return current().ledger.jobs.progress(job.id, 50, "half")


def _pays(_: JobCall) -> Any:
    return current().providers.of("gemini").submit(None, {}, webhook_url=None)  # type: ignore[arg-type]


def _tells_prefect(_: JobCall) -> Any:
    return current().orchestrator.run_now("reconcile/every-minute")


def _tells_others(_: JobCall) -> Any:
    return current().dispatcher.grant()


def _steps(job: JobCall) -> Any:
    return job.step("charge", lambda: pytest.fail("it was done"))


def _sleeps(job: JobCall) -> Any:
    return job.sleep(timedelta(days=1))


def _starts_a_child(job: JobCall) -> Any:
    return job.invoke("generate-image", prompt="a fox")


def _sends(job: JobCall) -> Any:
    return job.send_event("order.confirmed", {}, step="announce")


@pytest.mark.parametrize(
    ("does", "why"),
    [
        (_fetches, "it would reach another machine"),
        (_stores, "it would store a file"),
        (_writes, "it would write to the ledger"),
        (_pays, "it would send a paid call"),
        (_tells_prefect, "it would tell Prefect"),
        (_tells_others, "it would tell other runs"),
        (_steps, "it would do the step 'charge'"),
        (_sleeps, "it would wait in the step 'sleep-1'"),
        (_starts_a_child, "it would start generate-image"),
        (_sends, "it would do the step 'announce'"),
    ],
)
def test_whatever_the_code_does_nothing_happens(failed: Any, tried: Any, does: Function, why: str) -> None:
    """It ends there, also where the function would go on after a failure; and the word is what it would have done."""

    def swallowing(job: JobCall) -> Any:
        try:
            return does(job)
        except Exception:
            return "never mind"

    said = tried(failed(before), swallowing if does is not _writes else does)
    assert (said.verdict, said.why) == (Verdict.CANNOT_TELL, why)


def test_what_a_thread_of_the_code_would_reach_is_not_reached(failed: Any, tried: Any) -> None:
    """It fails there as where the network is out."""
    errors: list[Exception] = []

    def fetch() -> None:
        try:
            httpx.get("http://127.0.0.1:9/")
        except Exception as error:
            errors.append(error)

    def by_a_thread(job: JobCall) -> Any:
        thread = threading.Thread(target=fetch)
        thread.start()
        thread.join()

    tried(failed(before), by_a_thread)
    assert "Nothing is reached from here" in str(errors[0])


def test_a_step_that_is_on_record_is_given_and_what_it_waited_for_too(failed: Any, tried: Any) -> None:
    """So what comes after them is tried."""

    def charged(job: JobCall) -> Any:
        paid = job.step("charge", lambda: {"id": "ch_1"})
        job.sleep(timedelta(0))
        return paid["no such key"]

    def mended(job: JobCall) -> Any:
        paid = job.step("charge", lambda: pytest.fail("it was done again"))
        job.sleep(timedelta(0))
        return {"charge": paid["id"]}

    assert tried(failed(charged), mended).verdict is Verdict.COMPLETES


def test_the_first_of_several_that_is_on_record_counts(failed: Any, tried: Any) -> None:
    """And a wait that ended with its job is over, once its time is."""
    day = timedelta(days=1)

    def waited(job: JobCall) -> Any:
        job.wait_any({"soon": Sleep(timedelta(0)), "late": Sleep(day)}, step="first")
        return job.no_such_thing  # type: ignore[attr-defined]

    def chosen(job: JobCall) -> Any:
        key, _ = job.wait_any({"soon": Sleep(timedelta(0)), "late": Sleep(day)}, step="first")
        return job.step(f"after-{key}", lambda: pytest.fail("it was done"))

    said = tried(failed(waited), chosen)
    assert said.why == "it would do the step 'after-soon'"


def test_a_sleep_that_would_be_over_by_now_is_over(failed: Any, tried: Any, db: Db) -> None:
    """It ended with its job; a replay would find that its time has come. One whose time has not would go on."""

    def sleeps(job: JobCall) -> Any:
        job.start(ECHO, {"prompt": "a fox"}, step="echo")
        with suppress(Waiting):
            job.sleep(timedelta(days=1), step="night")
        return job.no_such_thing  # type: ignore[attr-defined]

    def mended(job: JobCall) -> Any:
        job.sleep(timedelta(days=1), step="night")
        return {"slept": True}

    job = failed(sleeps)
    assert tried(job, mended).why == "it would go on to wait in the step 'night'"
    db.execute("UPDATE wait SET until = now() - interval '1 minute'")
    assert tried(job, mended).verdict is Verdict.COMPLETES


@pytest.mark.parametrize(("ended", "why"), [("completed", None), ("failed", "it would start generate-image again")])
def test_a_child_that_has_ended_is_taken_as_a_replay_would(
    failed: Any, tried: Any, resources: Resources, ended: str, why: str | None
) -> None:
    """What it came to; or it is started again, where it came to nothing."""
    ledger = resources.ledger

    def parent(job: JobCall) -> Any:
        row = ledger.jobs.get(job.id)
        assert row is not None
        wait, _ = ledger.waits.for_child(row, "child", kind="generate-image", parameters={"prompt": "a fox"})
        ledger.jobs.finish(str(wait.child_job_id), JobStatus(ended), result={"n": 1}, error={"message": "No."})
        with suppress(Permanent):
            job.invoke("generate-image", step="child", prompt="a fox")
        return job.no_such_thing  # type: ignore[attr-defined]

    def mended(job: JobCall) -> Any:
        return dict(job.invoke("generate-image", step="child", prompt="a fox").result or {})

    assert tried(failed(parent), mended).why == why


def test_a_result_that_came_late_serves(tried: Any, resources: Resources, ledger: Ledger, ann: str) -> None:
    """The job had been cancelled by then; it is paid, so a replay takes it up."""
    job = new_job(ledger, ann)
    row = ledger.requests.reserve_all(job.id, [build_request(ECHO, {"prompt": "a fox"}, step="echo")])[0]
    ledger.grants.grant()
    ledger.requests.begin_submit(row.ref, deadline=timedelta(hours=1))
    ledger.requests.settle(row.ref, Outcome(transition=Transition.EXPIRE, error={"code": "expired"}), via=None)
    ledger.jobs.finish(job.id, JobStatus.FAILED, error={"code": "expired"})
    ledger.requests.settle(row.ref, echoed({}), via="webhook")
    said = tried(job, lambda job: job.store(echo(job, prompt="a fox")))
    assert (said.verdict, said.asks) == (Verdict.COMPLETES, ())


def test_an_answer_that_the_user_has_had_serves_without_a_price(
    failed: Any, tried: Any, resources: Resources, ann: str
) -> None:
    """As it would for the replay, with its file."""

    def wanted(job: JobCall) -> Any:
        return job.store(job.infer(ECHO, {"prompt": "a bear"}, step="bear", reuse=True))[0]

    other = new_job(resources.ledger, ann)
    until_it_has_come(resources, other.id, wanted)
    job = failed(before)
    said = tried(job, lambda job: job.make("copy", lambda: job.read(wanted(job))))
    assert (said.verdict, said.asks) == (Verdict.COMPLETES, ())


def test_a_job_of_which_a_call_is_still_with_the_provider_cannot_be_told(
    tried: Any, resources: Resources, ledger: Ledger, ann: str
) -> None:
    """Nor can it be replayed: its result may yet come."""
    job = new_job(ledger, ann)
    spec: RequestSpec = build_request(ECHO, {"prompt": "a fox"}, step="echo")
    row = ledger.requests.reserve_all(job.id, [spec])[0]
    ledger.grants.grant()
    ledger.requests.begin_submit(row.ref, deadline=timedelta(hours=1))
    ledger.jobs.finish(job.id, JobStatus.FAILED, error={"code": "x"})
    said = tried(job, ask_for("a fox"))
    assert said.verdict is Verdict.CANNOT_TELL and "not done with it" in said.why
