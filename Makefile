# SPDX-License-Identifier: GPL-3.0-or-later
# Needs make, python3 >= 3.11 and pip; everything else is fetched into .venv and .tools by the first target.
# Choose another interpreter with `make demo PYTHON=python3.12` (after `make clean`).

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.bootstrapped
# One more than there are cores: some tests wait for nodes and processes.
JOBS  ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
ARGS  ?=
PYTHON ?=
export PYTHON
# Compiled modules are kept, away from the sources, whatever the caller's habit: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

# One file of tests stays on one worker, so that its fixtures (an embedded EVM, a journal) are built once.
PYTEST := $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

$(STAMP): pyproject.toml uv.lock tools/bootstrap.sh
	@bash tools/bootstrap.sh
	@touch $@

.PHONY: docs help setup demo test test-slow soak lint format bench contracts dist man forge forge-slow verifiers coverage-contracts slither clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## install the locked dependencies into .venv

demo: $(STAMP) ## the whole path, from deposits to exit after the operator's death (about a minute)
	$(BIN)/novate demo $(ARGS)

test: $(STAMP) ## the fast suite; ARGS="-k book" narrows it, JOBS=0 runs it in one process
	$(PYTEST) $(ARGS)

test-slow: $(STAMP) ## the slow suite: thousands of kills, whole trading days
	$(PYTEST) -m slow $(ARGS)

soak: $(STAMP) ## every test with many more random examples; takes hours
	$(PYTEST) -m "slow or not slow" --hypothesis-profile=soak $(ARGS)

docs: $(STAMP) ## write docs/reference from the code; `python -m tools.docs.run` runs the pages' commands
	$(BIN)/python -m tools.docs.reference $(ARGS)

lint: $(STAMP) ## ruff, mypy --strict, import-linter, and our own rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/test_rules.py

format: $(STAMP) ## let ruff format and fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## medians with ratios, both sides in the same run; writes build/bench.json
	@bash tools/bootstrap.sh --group bench
	@mkdir -p build
	$(BIN)/python -m tools.bench --out build/bench.json $(ARGS)

contracts: $(STAMP) ## rebuild contracts/artifacts with the pinned compiler (needs Node)
	@command -v npm >/dev/null || { echo "make contracts needs Node and npm (Debian: apt-get install nodejs npm)"; exit 1; }
	cd contracts && npm ci --no-audit --no-fund
	$(BIN)/python -m tools.build_contracts $(ARGS)

contracts/node_modules/.package-lock.json: contracts/package-lock.json
	@command -v npm >/dev/null || { echo "this needs Node and npm (Debian: apt-get install nodejs npm)"; exit 1; }
	cd contracts && npm ci --no-audit --no-fund

forge: $(STAMP) contracts/node_modules/.package-lock.json ## Foundry: unit, fuzz, invariants, vectors (two minutes, most of it compiling)
	$(BIN)/python -m tools.forge $(ARGS)

verifiers: $(STAMP) ## sigstore's verifier, in an environment of its own, for tests/tlog
	$(BIN)/python -m venv --clear .tools/sigstore
	.tools/sigstore/bin/pip install -q --disable-pip-version-check -r tools/tlog_sigstore/requirements.txt

forge-slow: $(STAMP) contracts/node_modules/.package-lock.json ## the invariants with more than 100,000 calls
	$(BIN)/python -m tools.forge --slow $(ARGS)

coverage-contracts: $(STAMP) contracts/node_modules/.package-lock.json ## lines of contracts/src that Foundry's tests run
	$(BIN)/python -m tools.forge coverage $(ARGS)

slither: $(STAMP) ## static analysis of the contracts, each finding explained (needs Node; a minute)
	@command -v npm >/dev/null || { echo "make slither needs Node and npm (Debian: apt-get install nodejs npm)"; exit 1; }
	@test -d contracts/node_modules/solc || (cd contracts && npm ci --no-audit --no-fund)
	@UV_PROJECT_ENVIRONMENT=$(CURDIR)/.tools/slither bash tools/bootstrap.sh --project tools/slither
	$(BIN)/python -m tools.slither $(ARGS)

# The time of the last commit: whoever builds that commit gets the same bytes.
dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)
dist: $(STAMP) ## wheel and sdist into dist/, byte for byte the same for everyone
	@rm -rf dist
	$(BIN)/python -m build --no-isolation --sdist --wheel --outdir dist .
	@cd dist && sha256sum *

man: $(STAMP) ## manual pages into build/man; the wheel brings its own
	@$(BIN)/python -m tools.packaging.man build/man/man1

clean: ## remove the environment, the fetched tools and every cache
	rm -rf .venv .venv-* .tools build dist contracts/node_modules
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
