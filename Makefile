# Everything a developer or a CI machine runs. Needs Python 3.11 or later with venv, and make.
# `make demo` and `make test` prepare .venv by themselves; nothing is compiled.

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The first of these that is new enough; say `make PYTHON=...` for another.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
    $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
JOBS ?= 2
TESTS ?= tests

VENV := .venv
BIN := $(VENV)/bin
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check --quiet

# The developer install. Other people's code comes as wheels only (a local directory is not held to
# that); `compat` puts this directory itself on the path, without which twistd finds no plugin.
DEVELOPER_INSTALL := install --only-binary :all: --config-settings editable_mode=compat --editable

.PHONY: help demo test faults bench soak testsuite lint types floors docs proto docs-check news check coverage format clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

# --- environments --------------------------------------------------------------------------

$(VENV)/made: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@rm -rf $(VENV)
	@echo "preparing $(VENV) (once, and again when setup.cfg changes)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --only-binary :all: --upgrade pip
	@$(PIP) $(DEVELOPER_INSTALL) '.[test]'
	@touch $@

# The tools of `make check`, on top.
$(VENV)/made-dev: $(VENV)/made
	@$(PIP) $(DEVELOPER_INSTALL) '.[dev]'
	@touch $@

# What the benchmark needs: plots, and what its peers are made of.
$(VENV)/made-bench: $(VENV)/made
	@$(PIP) $(DEVELOPER_INSTALL) '.[bench]'
	@touch $@

# --- what people run -----------------------------------------------------------------------

demo: $(VENV)/made ## a spoken-like WAV through the whole daemon, no server needed
	@$(BIN)/voiceingest demo $(ARGS)

test: $(VENV)/made ## every test; the last line counts them
	@$(BIN)/python -m tests.support.run --jobs $(JOBS) $(TESTS)

faults: $(VENV)/made ## every fault of the list, played: brokers, connections, processes (12 minutes; ARGS=--quick is 4)
	@$(BIN)/python -m tests.faults $(ARGS)

bench: $(VENV)/made-bench ## CPU, latency and memory beside Go, Node and Python (12 minutes; ARGS=--quick is 3)
	@benchmarks/prepare.sh
	@$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/made-bench ## a hundred streams for half an hour: does memory grow, is a frame lost (ARGS=--quick is 2 minutes)
	@$(BIN)/python -m benchmarks.soak $(ARGS)

testsuite: $(VENV)/made ## all 517 cases of Autobahn|Testsuite (15 minutes; needs Python 2.7)
	@$(BIN)/python -m tests.testsuite.wstest --all

# --- what CI runs besides ------------------------------------------------------------------

check: lint types floors docs-check news test ## everything

lint: $(VENV)/made-dev ## style
	@$(BIN)/ruff check .

format: $(VENV)/made-dev ## what the style checker can mend by itself
	@$(BIN)/ruff check --fix .

types: $(VENV)/made-dev ## types, strictly
	@$(BIN)/mypy

floors: $(VENV)/made-dev ## who may import whom
	@$(BIN)/lint-imports --cache-dir .cache/importlinter

docs: $(VENV)/made ## write the reference pages again
	@$(BIN)/python -m voiceingest.reference

proto: $(VENV)/made ## write the code of gRPC again, from proto/session.proto
	@$(BIN)/python proto/generate.py

docs-check: $(VENV)/made ## fail when a reference page is stale
	@$(BIN)/python -m voiceingest.reference --check

news: $(VENV)/made-dev ## the changelog as the next release would have it
	@$(BIN)/towncrier build --draft --version next

coverage: $(VENV)/made-dev ## every test, and which lines they reach
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m tests.support.run $(TESTS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

clean: ## remove whatever can be made again
	@rm -rf $(VENV) .cache .tox build dist .hypothesis .coverage .coverage.* htmlcov _trial_temp*
	@rm -rf *.egg-info tests/interop/node/node_modules benchmarks/peers/node/node_modules benchmarks/results
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	@find . -name dropin.cache -not -path './.git/*' -delete
