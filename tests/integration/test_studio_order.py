"""Ordering in the Studio: forms of models and pipelines, their price, what is wrong, and once more with a change."""

from __future__ import annotations

import re

import httpx
from asset_rows import brought, picture
from shared_gateway import ann as ann
from shared_gateway import gateway as gateway
from shared_gateway import home as home
from shared_gateway import ledger_url as ledger_url
from shared_gateway import store as store
from shared_gateway import visitor as visitor
from studio_browser import OWN, Visitor

from darkroom.ledger import Job, Ledger, NewKey
from darkroom.media.store import MediaStore

FLUX = "/studio/order/form?kind=run-model&model=fal-ai/flux/dev"
KLING = "/studio/order/form?kind=run-model&model=fal-ai/kling-video/v2.5-turbo/pro/image-to-video"
EDIT = "/studio/order/form?kind=edit-image"
HOSTILE = "<script>alert('a')</script>"


def job_of(answer: httpx.Response, ledger: Ledger) -> Job:
    assert answer.status_code == 303, re.sub(r"<[^>]+>", " ", answer.text)
    job = ledger.jobs.get(answer.headers["Location"].rpartition("/")[2])
    assert job is not None and job.parameters is not None
    return job


def test_models_are_found_with_their_price(visitor: Visitor) -> None:
    """By words and by category; what there is nothing of says so."""
    page = visitor.get("/studio/order").text
    assert "$0.025 / megapixel" in page and "image-to-3d (2)" in page
    found = visitor.get("/studio/order?category=image-to-3d&q=trellis").text
    assert found.count('class="row plain"') == 1 and "TRELLIS" in found
    assert "No model is like that" in visitor.get("/studio/order?q=nonesuch").text


def test_a_form_is_made_of_the_models_schema(visitor: Visitor) -> None:
    """What is required comes first, the rest is folded; each as what it takes, under a label."""
    page = visitor.get(FLUX).text
    assert page.index('name="input.prompt"') < page.index("<details") < page.index('name="input.seed"')
    for shown in (
        '<textarea id="in-input-prompt"',
        '<select id="in-input-image-size"',
        'name="input.image_size.width"',
        'type="range"',
        'name="input.enable_safety_checker" aria-describedby',
        'name="max_usd"',
        'name="tags"',
    ):
        assert shown in page, shown
    assert "sync_mode" not in page and 'name="file.input.image_url"' in visitor.get(KLING).text


def test_a_model_is_ordered_with_what_was_filled_in(visitor: Visitor, ledger: Ledger) -> None:
    """And with nothing that was left as it is."""
    given = {
        "input.prompt": "a fox",
        "input.image_size": "",
        "input.image_size.width": "640",
        "input.image_size.height": "480",
        "input.num_images": "2",
        "input.output_format": "jpeg",
        "input.enable_safety_checker": "true",
        "tags": "spring\r\nshop 7",
    }
    job = job_of(visitor.send(FLUX, **given), ledger)
    expected = {"prompt": "a fox", "image_size": {"width": 640, "height": 480}, "num_images": 2}
    assert job.parameters == {"model": "fal-ai/flux/dev", "input": expected}
    assert job.tags == ["spring", "shop 7"]


def test_a_form_that_is_sent_twice_is_one_order(visitor: Visitor, ledger: Ledger) -> None:
    """By a double click; changed after going back it is another."""
    once = {"once": "0" * 32}
    jobs = [job_of(visitor.send(FLUX, **once, **{"input.prompt": text}), ledger).id for text in ("a", "a", "b")]
    assert jobs[0] == jobs[1] != jobs[2]


def test_what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(visitor: Visitor) -> None:
    """What the page sees itself, and what the API refuses."""
    wrong = {
        "input.num_images": ("x7", "This is no number."),
        "input.guidance_scale": ("99", "use a number from 1 to 20"),
        "callback_url": ("nonsense", "."),
    }
    for name, (typed, told) in wrong.items():
        answer = visitor.send(FLUX, **{"input.prompt": HOSTILE, name: typed})
        error = answer.text.partition(f'id="error-{name.replace(".", "-").replace("_", "-")}"')[2].partition("</p>")[0]
        assert answer.status_code == 422 and told.lower() in error.lower(), (name, error)
        assert "&lt;script&gt;alert(" in answer.text and "<script>alert(" not in answer.text and typed in answer.text
        assert 'aria-invalid="true"' in answer.text and 'role="alert"' in answer.text
    assert "Fill this in." in visitor.send(FLUX, **{"input.prompt": " "}).text


def test_the_price_is_told_while_it_is_filled_in(visitor: Visitor) -> None:
    """With what it is made of; before there is enough, what is lacking; and each error beside its field."""
    at = FLUX.replace("/form?", "/quote?")
    assert "Fill in: Prompt." in visitor.send(at).text
    told = visitor.send(at, **{"input.prompt": "a fox", "input.num_images": "2", "post": "upscale"}).text
    assert "list price" in told and "fal-ai/clarity-upscaler" in told and "$" in told
    refused = visitor.send(at, **{"input.prompt": "a fox", "input.num_images": "9"}).text
    error = refused.partition('id="error-input-num-images"')[2].partition("</p>")[0]
    assert 'hx-swap-oob="true"' in refused and "from 1 to 4" in error and "What is marked" in refused


def test_a_file_comes_with_the_form(visitor: Visitor, ledger: Ledger, ann: NewKey) -> None:
    """It is brought, and named in the order; one that is refused is said at its field."""
    token = re.findall(r'name="csrf" value="([0-9a-f]{64})"', visitor.get(KLING).text)[0]

    def send(path: str, content: bytes, **given: str) -> httpx.Response:
        files = {"file.input.image_url": ("fox.png", content, "image/png")}
        return visitor.http.post(path, data={"csrf": token} | given, files=files, headers=OWN)

    job = job_of(send(KLING, picture(), **{"input.prompt": "it runs"}), ledger)
    assert job.parameters is not None
    asset = ledger.assets.get(job.parameters["input"]["image_url"].removeprefix("asset:"))
    assert asset is not None and asset.user_id == ann.user_id
    refused = send(KLING, b"no picture", **{"input.prompt": "it runs"})
    assert refused.status_code == 422 and "fox.png: " in refused.text and "it runs" in refused.text
    kept = send(KLING.replace("/form?", "/upload?") + "&field=input.image_url", picture())
    assert kept.headers["HX-Trigger"] == "brought" and 'value="asset:ast_' in kept.text


def test_a_file_for_a_field_that_is_not_there_is_told(visitor: Visitor) -> None:
    """As of a form that was open while its model changed; nothing is brought."""
    answer = visitor.send("/studio/order/upload?kind=run-model&model=fal-ai/esrgan&field=input.picture")
    assert answer.status_code == 422 and "input.picture" in answer.text and "Load the form anew" in answer.text


def test_a_pipeline_is_ordered_by_its_own_form(
    visitor: Visitor, ledger: Ledger, store: MediaStore, ann: NewKey
) -> None:
    """Ours and the project's; a picture of the gallery is in it already."""
    listed = visitor.get("/studio/order/pipelines").text
    assert "kind=edit-image" in listed and "kind=process-order" in listed and "kind=render-batch" not in listed
    logo = brought(ledger, store, ann)
    page = visitor.get(f"{EDIT}&file={logo.id}&post=upscale").text
    assert f'value="{logo.id}"' in page and re.search(r'name="post" value="upscale" checked', page)
    job = job_of(visitor.send(EDIT, image=logo.id, post="upscale"), ledger)
    again = visitor.get(f"/studio/order/again/{job.id}").text
    assert re.search(r'name="post" value="upscale" checked', again)
    assert (job.kind, job.parameters) == ("edit-image", {"image": logo.id, "post": [{"step": "upscale"}]})


def test_an_order_is_made_again_with_one_change(visitor: Visitor, ledger: Ledger) -> None:
    """Its form is filled in as it was ordered, whichever way it was."""
    given = {"input.prompt": "a fox", "input.seed": "7", "input.enable_safety_checker": "false", "tags": "spring"}
    job = job_of(visitor.send(FLUX, **given), ledger)
    page = visitor.get(f"/studio/order/again/{job.id}").text
    assert ">a fox</textarea>" in page and 'value="7"' in page and ">spring</textarea>" in page
    box = page.partition('id="in-input-enable-safety-checker"')[0].rpartition("<input")[2]
    assert "checked" not in box
    assert f"/studio/order/again/{job.id}" in visitor.get(f"/studio/jobs/{job.id}").text
    assert visitor.get("/studio/order/again/job_nonesuch").status_code == 404


def test_an_address_with_a_signature_is_to_be_given_again(visitor: Visitor, ledger: Ledger) -> None:
    """It is on no page, and what stands there instead is no address."""
    form = "/studio/order/form?kind=run-model&model=fal-ai/esrgan"
    job = job_of(visitor.send(form, **{"input.image_url": "https://files.example/a.png?sig=abc"}), ledger)
    page = visitor.get(f"/studio/order/again/{job.id}").text
    assert "Give it again: Image URL." in page and "files.example" not in page
