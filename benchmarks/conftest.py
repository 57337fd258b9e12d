"""The fixtures that benchmarks share with the tests: pytest finds only those of folders above."""

from __future__ import annotations

from conftest import databases, pytest_configure

__all__ = ["databases", "pytest_configure"]
