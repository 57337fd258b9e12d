"""Provisioning against a real Prefect server: complete, repeatable, and respectful of what operators changed."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect_server import PrefectServer
from studio_browser import CHROMIUM, browsing

from darkroom.deployments.automations import RESUME_ON_CALLBACK
from darkroom.deployments.deployed import _appearance
from darkroom.deployments.provision import require_readable_blocks
from darkroom.errors import NeedsHuman
from darkroom.ledger import Ledger
from darkroom.settings import Settings

PREFECT = str(Path(sys.executable).with_name("prefect"))
PROJECT = Path(__file__).parents[2]
DEPLOYMENTS = ("generate-image/on-demand", "reconcile/every-minute", "sync-profile/debounced")
# What differs between two deployments of the same thing.
VOLATILE = {
    "id",
    "created",
    "updated",
    "last_polled",
    "status",
    "created_by",
    "updated_by",
    "version_id",
    "version_info",
}


def automations(prefect: PrefectServer) -> list[dict[str, Any]]:
    """Oldest first."""
    return list(prefect.call("POST", "/automations/filter", json={"sort": "CREATED_DESC"}))[::-1]


def snapshot(prefect: PrefectServer) -> str:
    """All there is of the deployments but ids and times."""
    found = [prefect.call("GET", f"/deployments/name/{name}") for name in DEPLOYMENTS]
    return json.dumps(_without(found), sort_keys=True, indent=1)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner) for name, inner in value.items() if name not in VOLATILE}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


def fal_key(prefect: PrefectServer) -> str:
    path = "/block_types/slug/fal-account/block_documents/name/default?include_secrets=true"
    return str(prefect.call("GET", path)["data"]["key"])


OTHERS = {"gemini-account": "key", "elevenlabs-account": "key", "mux-account": "token_secret"}


def other_secrets(prefect: PrefectServer) -> list[str | None]:
    """Of the accounts beside fal's; None where there is no block."""
    paths = {kind: f"/block_types/slug/{kind}/block_documents/name/default?include_secrets=true" for kind in OTHERS}
    found = {kind: prefect.call("GET", path, absent=True) for kind, path in paths.items()}
    return [document and document["data"][OTHERS[kind]] for kind, document in found.items()]


def test_a_second_time_changes_and_deploys_nothing(prefect: PrefectServer) -> None:
    """Every step looks first: same deployments, same automations, one key.

    And so does without Prefect, whose import is most of what deploying costs.
    """
    program = (
        "import sys; from darkroom.deployments.provision import provision; "
        "from darkroom.settings import load_settings; "
        "provision(load_settings(), say=lambda line: None); print('prefect' in sys.modules)"
    )
    prefect.provision()
    deployments, found = snapshot(prefect), automations(prefect)
    key = (prefect.home / "operator.key").read_text()
    assert prefect.run([sys.executable, "-c", program], cwd=PROJECT).stdout == "False\n"
    assert snapshot(prefect) == deployments
    assert automations(prefect) == found
    assert [each["name"] for each in found] == [RESUME_ON_CALLBACK["name"], "Darkroom: reconcile on a bad end"]
    assert (prefect.home / "operator.key").read_text() == key


def test_a_deployment_that_was_changed_by_hand_is_as_the_file_says_again(prefect: PrefectServer) -> None:
    """Though the code is the same as the last time. Each change is seen by itself."""
    before = snapshot(prefect)
    found = prefect.call("GET", f"/deployments/name/{DEPLOYMENTS[0]}")
    looks = [_appearance(prefect.api, DEPLOYMENTS)]
    for change in ({"description": "by hand"}, {"paused": True}, {"work_queue_name": "system"}):
        prefect.call("PATCH", f"/deployments/{found['id']}", json=change)
        looks.append(_appearance(prefect.api, DEPLOYMENTS))
    assert all(one != other for one, other in pairwise(looks))
    prefect.provision()
    assert snapshot(prefect) == before


def test_the_form_of_a_block_that_was_deleted_is_there_again(prefect: PrefectServer) -> None:
    """Also of an account that nobody names."""
    path = "/block_types/slug/payment-account"
    prefect.call("DELETE", f"/block_types/{prefect.call('GET', path)['id']}")
    prefect.provision()
    assert prefect.call("GET", path)["name"] == "Payment account"


def test_prefect_deploy_gives_the_same_deployments(prefect: PrefectServer) -> None:
    """`prefect deploy --all` and provision read one file and agree on everything in it."""
    before = snapshot(prefect)
    prefect.run([PREFECT, "--no-prompt", "deploy", "--all"], cwd=PROJECT)
    assert snapshot(prefect) == before


def test_the_pool_is_the_warm_workers_and_holds_no_secret(prefect: PrefectServer) -> None:
    """Keys are loaded from blocks."""
    pool = prefect.call("GET", "/work_pools/darkroom")
    assert pool["type"] == "warm"
    assert fal_key(prefect) not in json.dumps(pool)
    assert fal_key(prefect) not in snapshot(prefect)


def test_a_pool_of_the_first_release_is_made_fit_for_the_warm_worker(prefect: PrefectServer) -> None:
    """It named a command, which a warm worker refuses; what else operators have set up stays."""
    path = "/work_pools/darkroom"
    now = prefect.call("GET", path)["base_job_template"]
    command = {"default": "python -m prefect.engine", "type": "string"}
    properties = now["variables"]["properties"] | {"command": command}
    old = {
        "variables": now["variables"] | {"properties": properties},
        "job_configuration": now["job_configuration"] | {"command": "{{ command }}"},
    }
    prefect.call("PATCH", path, json={"base_job_template": old})
    prefect.provision()
    assert prefect.call("GET", path)["base_job_template"] == now


def test_queues_are_limited_before_anything_runs(prefect: PrefectServer) -> None:
    """What nobody limited would be without limit."""
    queues = prefect.call("POST", "/work_pools/darkroom/queues/filter", json={})
    limits = {queue["name"]: queue["concurrency_limit"] for queue in queues}
    assert limits["default"] == 4
    assert limits["system"] is None  # runs of reconcile that died would take the places of those to come
    assert limits["user-operator"] == 3


def test_reconcile_runs_every_minute_beside_everything_else(prefect: PrefectServer) -> None:
    """One schedule, active, in a queue of its own."""
    deployment = prefect.call("GET", "/deployments/name/reconcile/every-minute")
    (schedule,) = deployment["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "* * * * *"
    assert deployment["work_queue_name"] == "system"


def test_the_operators_key_is_theirs_alone_and_works(prefect: PrefectServer) -> None:
    """Readable by its owner only; renewed when it is not valid any more."""
    file = prefect.home / "operator.key"
    assert file.stat().st_mode & 0o777 == 0o600
    ledger = Ledger(prefect.environment["DARKROOM_LEDGER_URL"])

    def opens_for() -> str | None:
        caller = ledger.users.authenticate(file.read_text().strip())
        return caller and caller.user_id

    assert opens_for() == "operator"
    ledger.users.revoke("operator")
    assert opens_for() is None
    prefect.provision()
    assert opens_for() == "operator"
    ledger.close()


def test_another_home_has_a_key_of_its_own(prefect: PrefectServer, tmp_path: Path) -> None:
    """Those of the first home, and those that the operator made, open as before."""
    ledger = Ledger(prefect.environment["DARKROOM_LEDGER_URL"])
    made = ledger.keys.add("operator", name="dashboard").key
    here = (prefect.home / "operator.key").read_text().strip()
    prefect.provision(DARKROOM_HOME=str(tmp_path))
    there = (tmp_path / "operator.key").read_text().strip()
    assert all(ledger.users.authenticate(key) for key in (made, here, there))
    assert [key.expires_at for key in ledger.users.keys(["operator"])["operator"]] == [None] * 3
    (tmp_path / "operator.key").write_text("lost\n")
    prefect.provision(DARKROOM_HOME=str(tmp_path))
    assert ledger.users.authenticate(there) is None
    ledger.close()


NOTIFIER = "/block_types/slug/notifier/block_documents/name/default"


def test_a_block_that_exists_rules_unless_told_otherwise(prefect: PrefectServer) -> None:
    """An account edited in the UI stays; `--overwrite` takes what the environment says; no key is ever printed."""
    mine = {"FAL_KEY": "mine:secret", "MUX_TOKEN_ID": "mine", "MUX_TOKEN_SECRET": "my-secret"}
    mine["FAL_BILLING_KEY"] = ""  # else it is the simulator's, and what has a key of its is the simulator's
    way = {"DARKROOM_NOTIFIER": "https://app.example.com/news", "DARKROOM_NOTIFIER_SECRET": "my-secret"}
    said = prefect.provision("--overwrite", **mine, **way).stdout
    others = {"FAL_KEY": "other:secret", "MUX_TOKEN_ID": "other", "MUX_TOKEN_SECRET": "other-secret"}
    others |= {"FAL_BILLING_KEY": "", "DARKROOM_NOTIFIER": "log"}
    said += prefect.provision(**others).stdout
    assert fal_key(prefect) == "mine:secret"
    assert other_secrets(prefect)[-1] == "my-secret"
    news = prefect.call("GET", NOTIFIER)
    assert (news["data"]["way"], news["data"]["url"]) == ("webhook", "https://app.example.com/news")
    assert "my-secret" not in json.dumps(news)
    assert said.count("--overwrite replaces it") == 3
    assert "secret" not in said
    prefect.call("DELETE", f"/block_documents/{news['id']}")
    prefect.provision()  # with the simulator's: the one change that needs no asking
    assert fal_key(prefect) == "sim:key"
    assert other_secrets(prefect)[-1] == "sim:mux"
    assert prefect.call("GET", NOTIFIER)["data"]["way"] == "log", "until somebody names a way"


def test_another_encryption_key_is_told_in_one_sentence(prefect: PrefectServer, tmp_path: Path) -> None:
    """Which key it is, where it is looked for, and what is lost with it. What can read the blocks reads them still."""
    with prefect.with_another_key() as api:
        with pytest.raises(NeedsHuman) as refused:
            require_readable_blocks(api, Settings(home=prefect.home, ledger_url="", store="s3://bucket"))
        with pytest.raises(NeedsHuman, match="than the server has"):
            require_readable_blocks(api, Settings(home=tmp_path, ledger_url=""))
    said = refused.value.message
    assert "PREFECT_SERVER_ENCRYPTION_KEY" in said and str(prefect.home / "secrets.env") in said and "are lost" in said
    require_readable_blocks(prefect.api, Settings(home=prefect.home, ledger_url=""))


def test_an_account_that_nobody_names_is_not_made(prefect: PrefectServer) -> None:
    """It can be made in the UI, and whoever needs it says what is missing; where it is named it is there."""
    assert other_secrets(prefect) == ["sim:gemini", "sim:elevenlabs", "sim:mux"]
    block = prefect.call("GET", "/block_types/slug/gemini-account/block_documents/name/default")
    prefect.call("DELETE", f"/block_documents/{block['id']}")
    prefect.provision(GEMINI_API_KEY="")
    assert other_secrets(prefect)[0] is None
    assert prefect.call("GET", "/block_types/slug/gemini-account")["name"] == "Gemini account"
    load = "from darkroom.providers.registry import Providers; Providers().of('gemini')"
    lost = prefect.run([sys.executable, "-c", load], check=False, cwd=PROJECT).stderr.splitlines()[-1]
    assert all(word in lost for word in ("NeedsHuman", "gemini-account/default", "GEMINI_API_KEY"))
    prefect.provision()
    assert other_secrets(prefect)[0] == "sim:gemini"


def test_an_automation_is_repaired_and_stays_switched_off(prefect: PrefectServer) -> None:
    """Brought back to what it must be, without duplicates, and whether it is enabled is the operator's choice."""
    found = automations(prefect)[0]
    broken = {**RESUME_ON_CALLBACK, "enabled": False, "trigger": {**RESUME_ON_CALLBACK["trigger"], "within": 60}}
    prefect.call("PUT", f"/automations/{found['id']}", json=broken)
    prefect.call("POST", "/automations/", json=RESUME_ON_CALLBACK)
    prefect.provision()
    repaired, _ = automations(prefect)
    assert repaired["trigger"]["within"] == 0
    prefect.call("PATCH", f"/automations/{repaired['id']}", json={"enabled": True})


def test_an_automation_follows_a_deployment_that_was_made_anew(prefect: PrefectServer) -> None:
    """Its id is another then, and the one that the automation would run is gone."""
    old = prefect.call("GET", "/deployments/name/reconcile/every-minute")["id"]
    prefect.call("DELETE", f"/deployments/{old}")
    prefect.provision()
    now = prefect.call("GET", "/deployments/name/reconcile/every-minute")["id"]
    assert automations(prefect)[1]["actions"][0]["deployment_id"] == now != old


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ({"DARKROOM_STORE": "block:local-file-system/nowhere"}, "local-file-system/nowhere"),
        ({"PREFECT_API_AUTH_STRING": "darkroom:guess"}, "PREFECT_API_AUTH_STRING"),
        ({"DARKROOM_LEDGER_URL": "", "DARKROOM_HOME": "/nonexistent"}, "DARKROOM_LEDGER_URL"),
    ],
)
def test_what_is_missing_is_named_in_one_line(prefect: PrefectServer, missing: dict[str, str], remedy: str) -> None:
    """Exit code 1, one line on stderr, and the line names the remedy."""
    done = prefect.provision(check=False, **missing)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("Still processing"))  # Prefect's own
    assert line.startswith("darkroom: ")
    assert remedy in line


def test_the_server_is_closed_to_strangers_and_to_other_pages(prefect: PrefectServer) -> None:
    """No answer without the auth string, and no page but its own UI may read it from a browser."""
    url = prefect.environment["PREFECT_API_URL"]
    assert httpx.post(f"{url}/flow_runs/filter", json={}).status_code == 401
    user, _, password = prefect.environment["PREFECT_API_AUTH_STRING"].partition(":")
    answer = httpx.get(f"{url}/health", auth=(user, password), headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    own = url.removesuffix("/api")
    answer = httpx.get(f"{url}/health", auth=(user, password), headers={"Origin": own})
    assert answer.headers["access-control-allow-origin"] == own


def test_there_is_one_ui(prefect: PrefectServer) -> None:
    """The one that the addresses of runs are of, also for a browser that was in the other on this host."""
    run = "/runs/flow-run/00000000-0000-0000-0000-000000000000"
    with httpx.Client(base_url=prefect.url, headers={"Accept": "text/html"}, trust_env=False) as browser:
        told = browser.get("/ui-settings", headers={"Accept": "*/*"}).json()
        assert (told["default_ui"], told["available_uis"]) == ("v1", ["v1"])
        first = browser.get("/").text
        browser.cookies.set("prefect_ui_version", "v2")
        assert browser.get("/").text == browser.get(run).text == first
        assert browser.get(f"/v2{run}").headers["location"] == run
    assert (prefect.home / "prefect" / "ui" / "v1" / "index.html").read_text() == first


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium")
def test_the_ui_asks_nobody_else(prefect: PrefectServer) -> None:
    """Nothing but this server is asked for anything, on any of its pages."""
    with browsing(prefect) as browser:
        browser.page.goto(prefect.url)
        browser.page.locator("input[type=password]").fill(prefect.environment["PREFECT_API_AUTH_STRING"])
        browser.page.keyboard.press("Enter")
        for page in ("dashboard", "runs", "deployments", "blocks", "settings"):
            with browser.page.expect_response(lambda answer: "/api/" in answer.url and answer.ok):
                browser.page.goto(f"{prefect.url}/{page}")
            browser.page.wait_for_load_state("networkidle")
        assert browser.strangers() == []


def test_logos_of_blocks_are_not_asked_for_elsewhere(prefect: PrefectServer) -> None:
    """Also after Prefect has written its own addresses back."""
    (secret,) = [each for each in _block_types(prefect) if each["slug"] == "secret"]
    prefect.call("PATCH", f"/block_types/{secret['id']}", json={"logo_url": "https://example.com/secret.png"})
    prefect.provision()
    assert {each["logo_url"] for each in _block_types(prefect)} == {None}


def _block_types(prefect: PrefectServer) -> list[dict[str, Any]]:
    return list(prefect.call("POST", "/block_types/filter", json={}))


def test_the_server_keeps_to_its_settings(prefect: PrefectServer) -> None:
    """A misspelt setting is ignored silently, so the server itself is asked."""
    server = prefect.call("GET", "/admin/settings")["server"]
    assert server["analytics_enabled"] is False
    assert server["concurrency"]["lease_storage"].endswith("filesystem")
    assert set(server["services"]["db_vacuum"]["enabled"]) == {"events", "flow_runs"}
    assert server["services"]["task_run_recorder"]["batch_size"] == 100
    assert server["services"]["task_run_recorder"]["flush_interval"] >= 1
