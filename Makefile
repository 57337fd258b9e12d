# Everything sets itself up: on a fresh clone only Python 3.11 or newer, make and git are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 4
# What pip installs it compiles one file after the other; COMPILE does it by all cores at once. A template of code in a
# package is no error of ours.
INSTALL := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check install --no-compile --editable
COMPILE := $(BIN)/python -m compileall -qq --workers 0 $(VENV)/lib || true

.PHONY: help install demo up check test test-quick test-slow bench chaos browser
.DEFAULT_GOAL := help

help:
	@echo "make demo     one picture the whole way, on real parts, and the record of it"
	@echo "make up       the whole stack on this machine, until Ctrl-C"
	@echo "make test     check, then every test, in about a quarter of an hour"
	@echo "make test-quick  unit tests, and the integration tests of what was changed"
	@echo "make test-slow   what waits, at its real times: acceptance and chaos, in about an hour"
	@echo "make check    lint, format, types, direction of imports"
	@echo "make bench    how fast it is, and what it costs, in 20 minutes; QUICK=1 make bench: in 5"
	@echo "make chaos    what it survives: 200 jobs while everything is killed; SEED=7 make chaos: another storm"

install: $(VENV)/installed

demo: install
	@$(BIN)/darkroom demo

up: install
	@$(BIN)/darkroom up

# mypy and import-linter look for `darkroom.flows` where its name says: in a copy that is laid out so.
check: $(VENV)/installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@rm -rf build/names && mkdir -p build/names && cp -Rp darkroom build/names && cp -Rp blocks deployments flows build/names/darkroom
	@$(BIN)/python tests/ratchet.py
	@$(BIN)/mypy
	@root=$$PWD; cd build/names && "$$root/$(BIN)/lint-imports" --no-logo --no-cache "$$root/pyproject.toml"

PYTEST := $(BIN)/python -m pytest
# Twice as many as two cores have room for: a stack's tests wait for most of their time, two thirds of a core were idle.
PARALLEL := --numprocesses 4 --dist loadfile --no-loadscope-reorder

test:
	@$(MAKE) --jobs 2 $(VENV)/installed-dev browser
	@$(MAKE) check
	@$(PYTEST) $(PARALLEL) tests/unit tests/integration tests/acceptance tests/chaos

# For the inner loop: what a change concerns, without a stack.
test-quick: $(VENV)/installed-dev
	@$(PYTEST) --numprocesses 2 tests/unit $$($(BIN)/python tests/concerned.py)

# What waits, at its real times.
test-slow: $(VENV)/installed-dev browser
	@$(PYTEST) $(PARALLEL) --time-scale 1 tests/acceptance tests/chaos

bench: $(VENV)/installed-dev
	@$(BIN)/python -m pytest --quiet benchmarks --timeout 1800 --capture no
	@PYTHONPATH=tests $(BIN)/python -m benchmarks --into build/bench

chaos: $(VENV)/installed-dev
	@$(BIN)/python -m pytest tests/chaos --jobs 200 --seed $(SEED)

# Tests that look at the UI use Debian's Chromium; they skip themselves where it cannot be had.
browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "There is no chromium: tests in the browser are skipped."

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Darkroom needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV), once …"
	@$(INSTALL) '.[local,film,debate]'
	@$(COMPILE)
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing with the tools for tests into $(VENV), once …"
	@$(INSTALL) '.[dev]'
	@$(COMPILE)
	@touch $@ $(VENV)/installed
