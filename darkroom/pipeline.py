"""One decorated function is a pipeline: a Prefect flow, its form, an order over HTTP, a dry run, a child of others.

    class Postcard(Order):
        prompt: str = field("Prompt", "What it shows.", min_length=1, max_length=4000)

    @pipeline(Postcard)
    def make_postcard(job: Job, order: Postcard) -> dict:
        picture = job.store(job.infer("fal-ai/flux/dev", {"prompt": order.prompt}, step="paint"))[0]
        return {"picture": picture.id}

The function's name is the flow's, and the kind of its jobs: `make-postcard`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from functools import update_wrapper
from typing import Annotated, Any

from prefect import Flow
from prefect.client.schemas.objects import State
from pydantic import Field
from pydantic_core import PydanticUndefined

from darkroom.engine.job import Job
from darkroom.engine.refusals import refused
from darkroom.engine.registry import AnOrder, Pipeline, call, register
from darkroom.engine.runner import drive
from darkroom.errors import BadInput
from darkroom.ledger import OPERATOR
from darkroom.order import InForm, Order, field

USER = field("User", "Who it is for: a user's name or id.", OPERATOR)


def pipeline(
    order: type[AnOrder], *, as_tasks: bool = True, patience: timedelta = timedelta(0)
) -> Callable[[Callable[[Job, AnOrder], object]], Flow[..., State[Any]]]:
    """Make a Prefect flow of a job function, whose parameters are the fields of `order`, and `user`.

    `as_tasks`: each step of a lone job is a task in Prefect's UI; not for a job of hundreds of steps. `patience`: how
    long a run waits in its process at least before it suspends, where something will come soon.
    """

    def decorate(function: Callable[[Job, AnOrder], object]) -> Flow[..., State[Any]]:
        made = Pipeline(kind=function.__name__.replace("_", "-"), order=order, function=function)
        register(made)
        signature = _signature(order)

        def carry(*args: Any, **kwargs: Any) -> State[Any]:
            given = signature.bind(*args, **kwargs).arguments
            user = given.pop("user", OPERATOR)
            try:
                asked = order.read(given)
                return drive(
                    call,
                    kind=made.kind,
                    parameters=asked.parameters(),
                    user=user,
                    as_tasks=as_tasks,
                    patience=patience,
                    check=asked.check,  # wrong input ends there, before anything is on record
                )
            except BadInput as error:
                return refused(error)

        update_wrapper(carry, function)
        del carry.__wrapped__  # type: ignore[attr-defined]  # its signature is not this one's
        carry.__signature__ = signature  # type: ignore[attr-defined]
        carry.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
        flow = Flow(carry, name=made.kind, retries=0, log_prints=False)
        flow._entrypoint = f"{_file_or_module(function)}:{function.__qualname__}"
        return flow

    return decorate


def _file_or_module(function: Callable[..., object]) -> str:
    """Return the file or module of a function, as Prefect's entrypoints have it.

    Prefect asks where the code of a flow stands, and that of `carry` is here.
    """
    loaded_by_path = function.__module__ == "__main__" or function.__module__.startswith("__prefect_loader_")
    return function.__code__.co_filename if loaded_by_path else function.__module__


def _signature(order: type[Order]) -> inspect.Signature:
    """Return the parameters of a flow: the fields of its order, as Prefect reads them for its form, and `user`."""
    if "user" in order.model_fields:
        raise TypeError(f"{order.__name__} has a field `user`, which every pipeline has already: who it is for.")
    parameters = []
    for name, info in order.model_fields.items():
        shown = next((each.type for each in info.metadata if isinstance(each, InForm)), None)
        annotation = shown or Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        default = info.get_default(call_default_factory=True)
        extra: Any = info.json_schema_extra or {}
        described = Field(
            ... if default is PydanticUndefined else default, description=info.description, json_schema_extra=extra
        )
        parameters.append(_parameter(name, annotation, described))
    parameters.append(_parameter("user", str, USER))
    return inspect.Signature(parameters, return_annotation=State[Any])


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
