from darkroom.testing import Stack


def test_a_postcard_is_made(stack: Stack) -> None:
    job = stack.ended(stack.order("make-postcard", prompt="a fox in the snow"))
    assert job["status"] == "completed", job["error"]
    assert [asset["content_type"] for asset in job["assets"]] == ["image/jpeg"]
    assert job["result"] == {"picture": job["assets"][0]["id"]}


def test_it_pays_one_picture(stack: Stack) -> None:
    (call,) = stack.would_ask("make-postcard", prompt="a fox in the snow")
    assert (call.step, call.endpoint) == ("paint", "fal-ai/flux/dev")
