"""The Studio's pages as a browser without scripts gets them: who sees what, and what is refused."""

from __future__ import annotations

import pytest
from running_gateway import RunningGateway
from shared_gateway import ann as ann
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url
from shared_gateway import visitor as visitor
from studio_browser import OWN, Visitor, rest_of, visiting

from darkroom.deployments.studio import vendored
from darkroom.deployments.studio.routes import SCREENS
from darkroom.errors import NeedsHuman
from darkroom.ledger import Job, JobStatus, Ledger, NewKey, Scope

HOSTILE = "<script>alert('a')</script>\"' onload=x"


def post(ledger: Ledger, key: NewKey, prompt: str = "a fox") -> Job:
    return ledger.jobs.post(user_id=key.user_id, kind="generate-image", parameters={"prompt": prompt}).job


def test_the_root_leads_a_browser_to_the_studio(gateway: RunningGateway) -> None:
    """And whoever calls the API to its documentation, as ever."""
    with visiting(gateway) as stranger:
        assert stranger.get("/").headers["Location"] == "/studio"
        assert stranger.get("/", Accept="*/*").headers["Location"] == "/docs"


def test_whoever_is_not_signed_in_is_led_to_sign_in_and_back(gateway: RunningGateway, ann: NewKey) -> None:
    """Back to the page that was wanted, and never to another host."""
    with visiting(gateway) as stranger:
        for screen in SCREENS:
            led = stranger.get(f"/studio{screen.path}").headers["Location"]
            assert led == f"/studio/sign-in?next=/studio{screen.path}"
        for wanted, led in {"/studio/money": "/studio/money", "//evil.example": "/studio/jobs"}.items():
            answer = stranger.http.post("/studio/sign-in", data={"key": ann.key, "next": wanted}, headers=OWN)
            assert (answer.status_code, answer.headers["Location"]) == (303, led)


def test_the_cookie_is_no_scripts_and_no_other_sites(gateway: RunningGateway, ann: NewKey) -> None:
    """And it is not the key."""
    with visiting(gateway) as stranger:
        cookie = stranger.sign_in(ann.key).headers["Set-Cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/studio", "Max-Age=43200"):
        assert part in cookie
    assert ann.key not in cookie


def test_a_wrong_key_is_told_and_not_repeated(gateway: RunningGateway) -> None:
    """Whatever it is made of."""
    with visiting(gateway) as stranger:
        for key in ("dk_wrong", HOSTILE, "schlüssel", ""):
            answer = stranger.sign_in(key)
            assert answer.status_code == 401 and "Not signed in" in answer.text and "Set-Cookie" not in answer.headers
            assert not key or key not in answer.text


def test_every_screen_is_a_page(gateway: RunningGateway, ledger: Ledger) -> None:
    """Under its heading, in the navigation, kept nowhere, and with a policy that lets in nothing from elsewhere."""
    admin = ledger.users.add("admin", scopes=list(Scope))
    with visiting(gateway, admin.key) as visitor:
        for screen in SCREENS:
            answer = visitor.get(f"/studio{screen.path}")
            assert answer.status_code == 200 and f">{screen.title}</h1>" in answer.text
            assert f'href="/studio{screen.path}" aria-current="page"' in answer.text
            assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy and "unsafe" not in policy
            assert "<style" not in answer.text and " style=" not in answer.text and "://" not in answer.text


def test_the_older_jobs_are_behind_a_link(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """Without scripts, too; what is new is put on top of the newest alone."""
    jobs = [post(ledger, ann, f"fox {n}").id for n in range(33)]
    for query in ("", "?q=fox"):
        first = visitor.get(f"/studio/jobs{query}").text
        older = rest_of(visitor, first)
        assert [first.count('class="row"'), older.count('class="row"')] == [30, 3]
        assert all(id in older for id in jobs[:3]) and "data-newcomers" not in older and ">Watch</h1>" in older


def test_operators_alone_are_shown_what_is_theirs(visitor: Visitor) -> None:
    """Others have no such entry."""
    assert "/studio/operators" not in visitor.get("/studio/jobs").text


def test_what_a_user_wrote_is_text(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """In the list, on the job's page, and in its title."""
    job = post(ledger, ann, HOSTILE)
    ledger.jobs.finish(job.id, JobStatus.FAILED, error={"code": "x", "message": HOSTILE, "class": "permanent"} | NONE)
    for path in ("/studio/jobs", f"/studio/jobs/{job.id}", "/studio/jobs?q=script"):
        page = visitor.get(path)
        assert page.status_code == 200, page.text
        assert "&lt;script&gt;alert(" in page.text and "<script>alert(" not in page.text


NONE = {"step": None, "ref": None, "retryable": False}


def test_nobody_sees_what_is_anothers(gateway: RunningGateway, visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """Neither a row nor a page nor a button, and nothing comes of trying."""
    job = post(ledger, ann, "annes secret")
    assert "annes secret" in visitor.get("/studio/jobs").text
    with visiting(gateway, ledger.users.add("bob").key) as bob:
        for path in ("", "/rows", f"/rows/{job.id}", f"/{job.id}", f"/{job.id}/view"):
            answer = bob.get(f"/studio/jobs{path}")
            assert "annes secret" not in answer.text and (answer.status_code == 404) == (job.id in path)
        for what in ("cancel", "replay", "repeat"):
            assert bob.send(f"/studio/jobs/{job.id}/{what}").status_code == 404
    assert visitor.send(f"/studio/jobs/{job.id}/cancel").headers["Location"] == f"/studio/jobs/{job.id}"
    page = visitor.get(f"/studio/jobs/{job.id}").text
    assert "cancelled" in page and "It is being cancelled." in page
    assert "It is being cancelled." not in visitor.get(f"/studio/jobs/{job.id}").text


def test_a_form_of_another_page_is_refused(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """By where the browser says it is from, and by the token of the session; nothing happens."""
    job = post(ledger, ann)
    path = f"/studio/jobs/{job.id}/cancel"
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {}, OWN):
        assert visitor.http.post(path, data={"csrf": "0" * 64}, headers=headers).status_code == 403
    found = ledger.jobs.get(job.id)
    assert found is not None and found.cancel_requested_at is None


@pytest.mark.parametrize("end", ["sign out", "revoke"])
def test_a_session_that_has_ended_opens_nothing(visitor: Visitor, ledger: Ledger, ann: NewKey, end: str) -> None:
    """Also where the cookie is kept, and for what htmx asks, which is led to sign in as a whole page."""
    cookie = visitor.http.cookies["darkroom_session"]
    if end == "revoke":
        ledger.keys.revoke(ann.id)
    else:
        assert visitor.send("/studio/sign-out").headers["Location"] == "/studio/sign-in"
        assert "darkroom_session" not in visitor.http.cookies
    again = {"Cookie": f"darkroom_session={cookie}"}
    assert visitor.get("/studio/jobs", **again).headers["Location"].startswith("/studio/sign-in")
    piece = visitor.get("/studio/jobs/rows", **again, **{"HX-Request": "true"})
    assert piece.status_code == 204 and piece.headers["HX-Redirect"].startswith("/studio/sign-in")


def test_a_refusal_is_shown_in_its_words(visitor: Visitor) -> None:
    """As a page, and to htmx as a piece of one."""
    page = visitor.get("/studio/jobs/job_nonesuch")
    assert page.status_code == 404 and "You have no job of this id." in page.text and "<html" in page.text
    piece = visitor.get("/studio/jobs/rows?cursor=nonsense", **{"HX-Request": "true"})
    assert piece.status_code == 422 and 'role="alert"' in piece.text and "<html" not in piece.text
    assert visitor.get("/studio/nonesuch").status_code == 404


def test_scripts_are_those_that_were_read(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of packages by their digest, for good under an address of their content; of another version none is served."""
    page = visitor.get("/studio/jobs").text
    for name in ("htmx.min.js", "studio.js", "studio.css"):
        at = page.partition(f"/studio/static/{name}")[2].partition('"')[0]
        answer = visitor.get(f"/studio/static/{name}{at}")
        assert answer.status_code == 200 and "immutable" in answer.headers["Cache-Control"]
    assert visitor.get("/studio/static/..%2Fapp.py").status_code == 404
    monkeypatch.setattr(vendored.hashlib, "sha256", lambda content: vendored.hashlib.md5(content))
    with pytest.raises(NeedsHuman, match="requirements anew"):
        vendored.vendored.__wrapped__("htmx.min.js")
