# Everything sets itself up: on a fresh clone only Python 3.11 or newer, make and git are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 4
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

.PHONY: help install demo up check test test-quick test-slow bench chaos browser
.DEFAULT_GOAL := help

help:
	@echo "make demo     one picture the whole way, on real parts, and the record of it"
	@echo "make up       the whole stack on this machine, until Ctrl-C"
	@echo "make test     check, then every test, in about ten minutes"
	@echo "make test-quick  unit tests, and the integration tests of what was changed"
	@echo "make test-slow   what waits, at its real times: acceptance and chaos, in about an hour"
	@echo "make check    lint, format, types, direction of imports"
	@echo "make bench    how fast it is, and what it costs, in 20 minutes; QUICK=1 make bench: $(VENV)/installed-dev
	@$(BIN)/python -m pytest --quiet tests/benchmarks --timeout 1800 --capture no
	@cd tests && $(abspath $(BIN))/python -m benchmarks --into $(CURDIR)/build/bench

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
	@$(PIP) install --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing with the tools for tests into $(VENV), once …"
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/installed
