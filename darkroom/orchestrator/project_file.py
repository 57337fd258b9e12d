"""prefect.yaml, as far as Darkroom itself reads it, of Darkroom's own project and of the user's.

A project is a folder with a prefect.yaml and modules. Darkroom's own is one; the user's is the folder that
`DARKROOM_PROJECT` names, else the nearest with a prefect.yaml from the current one upward. What holds for the
deployments of the one holds for those of the other. Prefect passes over what it does not know in the file; whoever
declares something there names it in an `Entry` of his own.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from darkroom.errors import NeedsHuman
from darkroom.settings import named_project

logger = logging.getLogger(__name__)

NAME = "prefect.yaml"
# The same in C, where the wheel has it: a tenth of the time, and each process reads its project several times.
_LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PIPELINES = "darkroom.pipelines"  # the group of entry points by which an installed package brings pipelines


def _own_folder() -> Path:
    """Return where `flows/` is: in a checkout beside the library, in an installation inside it."""
    spec = importlib.util.find_spec("darkroom.flows")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parents[1]


# Darkroom's own project.
PROJECT = _own_folder()
PREFECT_YAML = PROJECT / NAME


def users_project() -> Path | None:
    """Return the folder of the user's project; None where it is Darkroom's own.

    Raises `NeedsHuman` where it has no file.
    """
    if named := named_project():
        folder = named.expanduser().resolve()
        if not (folder / NAME).is_file():
            raise NeedsHuman(f"DARKROOM_PROJECT names {folder}, where no {NAME} is: `darkroom new DIR` makes one.")
    else:
        here = Path.cwd()
        found = (each for each in (here, *here.parents) if (each / NAME).is_file())
        folder = next(found, PROJECT).resolve()
    return None if folder == PROJECT.resolve() else folder


def project_files() -> list[Path]:
    """Return Darkroom's own prefect.yaml, and then the user's."""
    users = users_project()
    return [PREFECT_YAML] if users is None else [PREFECT_YAML, users / NAME]


class Entry(BaseModel):
    """A deployment of a file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    entrypoint: str  # "flows/generate_image.py:generate_image"
    tags: list[str] = []

    @property
    def kind(self) -> str:
        """Return the flow's name, and that of its jobs."""
        return self.entrypoint.rpartition(":")[2].replace("_", "-")

    @property
    def full_name(self) -> str:
        return f"{self.kind}/{self.name}"


AnEntry = TypeVar("AnEntry", bound=Entry)
AModel = TypeVar("AModel", bound=BaseModel)
T = TypeVar("T")


class Watched(Generic[T]):
    """What the project's files declare, as they say now: read again when one has changed.

    A file that is broken then leaves things as they were, and the log says so once.
    """

    def __init__(self, read: Callable[[], T], *, files: Sequence[Path], what: str) -> None:
        self._read = read
        self._files = files
        self._what = what  # "What events start"
        self._lock = Lock()
        self._stamp = self._stat()
        self._found = read()

    def now(self) -> T:
        with self._lock:
            if (stamp := self._stat()) != self._stamp:
                # Before the file is read: one that is broken is told once, and not at each look.
                self._stamp = stamp
                try:
                    self._found = self._read()
                except NeedsHuman as error:
                    logger.error("%s stays as it was: %s", self._what, error)
            return self._found

    def _stat(self) -> list[tuple[int, int, int]]:
        """Return modification time, size and inode of each file."""
        found = []
        for file in self._files:
            # A file that is being replaced is not there for a moment.
            with suppress(OSError):
                stat = file.stat()
                found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return found


def read_entries(model: type[AnEntry], files: Sequence[Path] | None = None) -> list[AnEntry]:
    """Read the deployments, in the files' order.

    A later file's deployment stands in for an earlier one's of the same name.

    Raises `NeedsHuman`, naming the place and what is wrong there. `files`: else those of the project.
    """
    found: dict[str, AnEntry] = {}
    for file in project_files() if files is None else files:
        found |= {entry.full_name: entry for entry in _read(model, file)}
    return list(found.values())


def _read(model: type[AnEntry], file: Path) -> list[AnEntry]:
    return read_section(model, file, "deployments")


def read_section(model: type[AModel], file: Path, section: str, *, required: bool = True) -> list[AModel]:
    """Read the list of that name in a file. Raise `NeedsHuman`, naming the place and what is wrong there."""
    default: Any = ... if required else Field(default_factory=list)
    whole = create_model("PrefectFile", **{section: (list[model], default)})  # type: ignore[call-overload, valid-type]
    try:
        read = whole.model_validate(_loaded(file.read_text()))
        found: list[AModel] = getattr(read, section)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise NeedsHuman(f"{file.name}, {place}: {first['msg']}") from error
    except (OSError, yaml.YAMLError) as error:
        words = str(error).replace("\n", " ")
        raise NeedsHuman(f"{file.name} cannot be read: {words}") from error
    return found


@lru_cache(maxsize=8)
def _loaded(text: str) -> Any:
    # By its text, which is never out of date: a gateway asks each file for five lists as it starts.
    return yaml.load(text, _LOADER)


def module_name(project: Path, file: str) -> str | None:
    """Return the name by which a file of a project is imported; None where it has none, e.g. outside of it."""
    path = Path(file)
    parts = path.with_suffix("").parts
    if path.suffix != ".py" or not all(part.isidentifier() for part in parts):
        return None
    # Ours are imported under the name of the library: the user's project may have a folder `flows` as well.
    if project == PROJECT:
        return ".".join(("darkroom", *parts)) if parts[0] == "flows" else None
    return ".".join(parts)


def import_flows() -> list[str]:
    """Import every module that a deployment of the project names, and those of installed packages.

    What they register on import is there then: pipelines, event types. Returns, in a sentence each, what cannot be
    imported: one file that is broken does not take the others with it.
    """
    broken = []
    for file in project_files():
        if file.parent != PROJECT and str(file.parent) not in sys.path:
            sys.path.insert(0, str(file.parent))
        for entrypoint in dict.fromkeys(entry.entrypoint for entry in _read(Entry, file)):
            name = module_name(file.parent, entrypoint.partition(":")[0])
            broken += _import(name, told_as=entrypoint) if name else [f"{entrypoint} is not folder/module.py:function."]
    for point in entry_points(group=PIPELINES):
        package = point.dist.name if point.dist else "?"
        broken += _import(point.module, told_as=f"{point.name} of the package {package}")
    return broken


def _import(name: str, *, told_as: str) -> list[str]:
    try:
        importlib.import_module(name)
    except Exception as error:
        return [f"{told_as} cannot be imported: {type(error).__name__}: {error}."]
    return []
