"""prefect.yaml, as far as Darkroom itself reads it: what stands beside a deployment that is none of Prefect's.

Prefect passes over what it does not know there. Whoever declares something there names it in an `Entry` of his own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from darkroom.errors import NeedsHuman

PROJECT = Path(__file__).parents[2]
PREFECT_YAML = PROJECT / "prefect.yaml"


class Entry(BaseModel):
    """A deployment of the file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    entrypoint: str  # "flows/generate_image.py:generate_image"
    tags: list[str] = []

    @property
    def kind(self) -> str:
        """The flow's name, and that of its jobs."""
        return self.entrypoint.rpartition(":")[2].replace("_", "-")

    @property
    def full_name(self) -> str:
        return f"{self.kind}/{self.name}"


AnEntry = TypeVar("AnEntry", bound=Entry)


def read_entries(model: type[AnEntry], file: Path = PREFECT_YAML) -> list[AnEntry]:
    """In the file's order. Raises `NeedsHuman`, naming the place and what is wrong there."""
    whole = create_model("PrefectFile", deployments=(list[model], ...))  # type: ignore[valid-type]
    try:
        found: list[AnEntry] = whole.model_validate(yaml.safe_load(file.read_text())).deployments  # type: ignore[attr-defined]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise NeedsHuman(f"{file.name}, {place}: {first['msg']}") from error
    except (OSError, yaml.YAMLError) as error:
        words = str(error).replace("\n", " ")
        raise NeedsHuman(f"{file.name} cannot be read: {words}") from error
    return found
