"""Modules of errors under their names of before, for one version.

Prefect's results on record name an error by module and class: of a flow that failed before everything moved under
`darkroom`, `blocks.errors.Permanent`. A parent that goes on after the move reads it, so the name has to lead somewhere.
The finder is asked last: what a project calls `blocks` or `flows` itself goes before it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "blocks.errors": "darkroom.errors",
    "blocks.manifest.problems": "darkroom.batches.problems",
    "flows.engine.waits": "darkroom.engine.signals",
}
_PACKAGES = {name.rsplit(".", n)[0] for name in MOVED for n in (1, 2)} - MOVED.keys()


class FormerNames(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MOVED and fullname not in _PACKAGES:
            return None
        return ModuleSpec(fullname, self, is_package=fullname in _PACKAGES)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module what the moved one has; a package above it has nothing."""
        if (moved := MOVED.get(module.__name__)) is not None:
            found = vars(import_module(moved))
            vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})


def keep_former_names() -> None:
    """Let the names be imported; done once for each process."""
    if not any(isinstance(each, FormerNames) for each in sys.meta_path):
        sys.meta_path.append(FormerNames())
