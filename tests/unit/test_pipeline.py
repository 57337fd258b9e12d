"""One decorated function is a Prefect flow, its form, and what today's code of a kind is; ours and a user's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.context import FlowRunContext
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from darkroom import Job, Order, field, pipeline
from darkroom.engine.dry_run import todays_code
from darkroom.engine.registry import REGISTRY, find
from darkroom.errors import BadInput, NeedsHuman
from darkroom.flows.generate_image import generate_image
from darkroom.flows.orders import NAMED
from darkroom.flows.orders.edit import Edit
from darkroom.flows.orders.picture import Picture
from darkroom.orchestrator.project_file import Entry, import_flows, read_entries

# As they were when each flow had its parameters written out; an hour's bounds are shown since.
FORMS = json.loads(Path(__file__).with_name("forms.json").read_text())


class Postcard(Order):
    prompt: str = field("Prompt", "What it shows.", min_length=1, max_length=4000)
    model: str = field("Model", "Any picture model.", "fal-ai/flux/dev")


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    for kind in FORMS:
        if kind not in ("daily-report", "reconcile", "replay"):
            find(kind)
    before = dict(REGISTRY)
    monkeypatch.setattr("darkroom.engine.registry.REGISTRY", before)


def test_a_pipeline_is_a_flow_like_any_other() -> None:
    """Its name, form and options are Prefect's; the form has the order's fields, and who it is for."""

    @pipeline(Postcard)
    def make_postcard(job: Job, order: Postcard) -> dict[str, Any]:
        """A prompt becomes a postcard."""
        return {}

    assert isinstance(make_postcard, Flow)
    assert (make_postcard.name, make_postcard.description) == ("make-postcard", "A prompt becomes a postcard.")
    assert make_postcard.with_options(timeout_seconds=5).timeout_seconds == 5
    form = parameter_schema(make_postcard.fn).model_dump()
    assert list(form["properties"]) == ["prompt", "model", "user"]
    assert form["required"] == ["prompt"]
    assert form["properties"]["prompt"] == {
        "description": "What it shows.",
        "maxLength": 4000,
        "minLength": 1,
        "position": 0,
        "title": "Prompt",
        "type": "string",
    }


@pytest.mark.parametrize("kind", [kind for kind in FORMS if kind not in ("daily-report", "reconcile", "replay")])
def test_the_form_of_a_flow_is_what_it_was(kind: str) -> None:
    """Field by field: titles, descriptions, defaults, bounds, positions."""
    (entry,) = [each for each in read_entries(Entry) if each.kind == kind]
    module = sys.modules[f"darkroom.flows.{Path(entry.entrypoint.partition(':')[0]).stem}"]
    flow = getattr(module, entry.entrypoint.partition(":")[2])
    assert parameter_schema(flow.fn).model_dump(mode="json") == FORMS[kind]


@pytest.mark.parametrize("order", NAMED)
def test_an_order_with_an_address_is_that_of_its_pipeline(order: type[Order]) -> None:
    """The gateway knows it without importing the flow."""
    assert order.over_http is not None
    assert find(order.over_http.kind).order is order


@pytest.mark.parametrize(
    ("kind", "typed", "name", "read"),
    [
        ("onboard-user", {"account": 4711, "email": "ann@example.com"}, "account", "4711"),
        ("make-debate", {"topic": "tea or coffee", "brands": ["A", "B"], "duration": 5}, "duration", 5),
        ("make-debate", {"topic": "tea or coffee", "brands": ["A", "B"], "duration": "5"}, "duration", 5),
    ],
)
def test_a_number_is_taken_as_people_type_it(kind: str, typed: dict[str, Any], name: str, read: object) -> None:
    """`-p account=4711` is a number to Prefect's command line, and an id to the application; never a flag."""
    order = find(kind).order
    assert getattr(order.read(typed), name) == read
    with pytest.raises(BadInput):
        order.read(typed | {name: True})


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"prompt": ["a secret fox"]}, "prompt"),
        ({"prompt": "a secret fox", "colour": "red"}, "colour"),
        ({"prompt": "a secret fox", "model": "fal-ai/flux/schnell", "lora": "mochi"}, "model"),  # by its own check
    ],
)
def test_parameters_that_a_pipeline_refuses_are_a_failure_without_their_values(
    parameters: dict[str, Any], field: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Also where a dry run asks what today's code would do with an old job's."""
    with pytest.raises(BadInput) as refusal:
        todays_code("generate-image", parameters)
    assert refusal.value.field == field
    assert "secret" not in "".join([refusal.value.message, *capfd.readouterr(), caplog.text])


def test_a_kind_that_nobody_has_is_told() -> None:
    """By its name."""
    with pytest.raises(NeedsHuman, match="no pipeline paint"):
        todays_code("paint", {})


def test_two_pipelines_of_one_name_are_refused() -> None:
    """Both places are named; the same file imported again is no second one."""
    with pytest.raises(
        NeedsHuman, match=r"Two pipelines are called generate-image: .*generate_image.py.*test_pipeline"
    ):

        @pipeline(Postcard)
        def generate_image(job: Job, order: Postcard) -> None: ...

    assert find("generate-image").order is Picture


def test_an_order_has_no_field_of_the_name_that_every_pipeline_has() -> None:
    """Told when the code is imported."""

    class Bad(Order):
        user: str

    with pytest.raises(TypeError, match="`user`"):

        @pipeline(Bad)
        def bad(job: Job, order: Bad) -> None: ...


def test_a_flow_that_is_called_has_its_order_checked_first() -> None:
    """Before Prefect has begun a run."""
    with pytest.raises(BadInput, match="prompt: Field required"):
        generate_image.fn()
    with pytest.raises(BadInput, match="A LoRA goes with FLUX dev alone"):
        generate_image.fn("a fox", "fal-ai/flux/schnell", lora="mochi")


def test_a_run_whose_input_is_refused_ends_failed_with_the_sentence() -> None:
    """And not by an exception: Prefect would show that with a traceback, as a fault of its engine."""
    with FlowRunContext.model_construct():
        state = generate_image.fn("a fox", "fal-ai/flux/schnell", lora="mochi")
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    assert "A LoRA goes with FLUX dev alone" in state.message


PROJECT = {
    "prefect.yaml": """
name: shop
deployments:
  - {name: on-demand, entrypoint: "flows/generate_image.py:make_postcard", work_pool: {name: darkroom}}
  - {name: on-demand, entrypoint: "flows/broken.py:broken", work_pool: {name: darkroom}}
""",
    "flows/__init__.py": "",
    "flows/generate_image.py": """
from darkroom import EventData, Job, Order, event, field, pipeline

from blocks.accounts import MODEL
from deployments.prices import PRICE


@event("postcard.ordered")
class PostcardOrdered(EventData):
    prompt: str


class Postcard(Order):
    prompt: str = field("Prompt", "What it shows.")


@pipeline(Postcard)
def make_postcard(job: Job, order: Postcard) -> dict:
    return {"model": MODEL, "price": PRICE}
""",
    "flows/broken.py": "import nothing_of_that_name\n",
    "blocks/__init__.py": "",
    "blocks/accounts.py": 'MODEL = "fal-ai/flux/dev"\n',
    "deployments/__init__.py": "",
    "deployments/prices.py": "PRICE = 1\n",
}
PROGRAM = """
from darkroom.engine.registry import REGISTRY, find
from darkroom.errors import NeedsHuman
from darkroom.events.types import find_type
from darkroom.orchestrator.project_file import Entry, read_entries

print(find_type("postcard.ordered")[1].__module__)
print(find("make-postcard").function.__module__, find("generate-image").function.__module__)
print([each.full_name for each in read_entries(Entry)][-2:])
try:
    find("broken")
except NeedsHuman as missing:
    print(missing)
"""


def test_a_project_may_have_the_folders_that_ours_has(tmp_path: Path) -> None:
    """With the same names of files, in one process; what is broken in it does not take the rest with it."""
    for name, text in PROJECT.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    below = tmp_path / "flows"
    said = subprocess.run([sys.executable, "-c", PROGRAM], cwd=below, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [
        "flows.generate_image",
        "flows.generate_image darkroom.flows.generate_image",
        "['make-postcard/on-demand', 'broken/on-demand']",
        "There is no pipeline broken. flows/broken.py:broken cannot be imported: "
        "ModuleNotFoundError: No module named 'nothing_of_that_name'.",
    ]


def test_all_that_deployments_name_can_be_imported() -> None:
    """Of our own project."""
    assert import_flows() == []


def test_a_file_that_is_reached_by_a_link_is_the_same_one(tmp_path: Path) -> None:
    """As by `prefect deploy` in a folder that links to where the code is: the worker has imported it there already."""
    (tmp_path / "linked").symlink_to(Path(__file__).parents[2])
    file = tmp_path / "linked" / "flows" / "edit_image.py"
    load_flow_from_entrypoint(f"{file}:edit_image", use_placeholder_flow=False)
    assert find("edit-image").order is Edit


@pytest.mark.parametrize(
    ("kind", "name"), [("generate-image", "seed"), ("generate-image", "num_images"), ("train-lora", "steps")]
)
def test_a_truth_is_no_number(kind: str, name: str) -> None:
    """Python takes it for 1, which would be paid for."""
    for given in (True, False):
        with pytest.raises(ValidationError, match="Input should be a number, not true or false"):
            find(kind).order.model_validate({"prompt": "a fox", name: given})
