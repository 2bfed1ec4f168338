# Everything is written under .venv/ and .litmus/; see `make help`.

PYTHON ?= python3.11
BIN := .venv/bin
SITE := .venv/lib/python3.11/site-packages
SECONDS ?= 60
MINUTES ?= 60
KEEP ?=
FAULTS ?= 50
SEED ?= 1

# Compiled kernels are kept here, for the stack and for the tests alike.
export NUMBA_CACHE_DIR := $(CURDIR)/.litmus/numba

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all soak torture trust bench check up down clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: .venv/.ready ## Install the locked packages, fetch Kafka, compile the kernels

demo: setup ## Stream real data through the whole stack (SECONDS=60, KEEP=1 leaves it running)
	SECONDS=$(SECONDS) KEEP=$(KEEP) $(BIN)/litmus demo

# What computes, three side by side; what mostly waits, two; what measures time, alone.
define rounds
	$(BIN)/python -m pytest -m 'not machine$(1)' -n 3 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m 'machine and not alone$(1)' -n 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m 'alone$(1)'
endef

test: setup ## Run the tests (some 14 minutes on two cores)
	$(call rounds, and not long)

test-all: setup ## Run the tests with every drawn world, not a third of them
	$(call rounds)

soak: setup ## Load the stack for long; fail if anything grows (MINUTES=60, RATE=events a second)
	MINUTES=$(MINUTES) $(BIN)/litmus soak

torture: setup ## Break everything under load, then audit every number (FAULTS=50 SEED=1)
	FAULTS=$(FAULTS) SEED=$(SEED) $(BIN)/litmus torture

trust: setup ## Try every promise of the statistics at full size, and publish it (SEED=1)
	SEED=$(SEED) $(BIN)/litmus trust

bench: setup ## Measure the engine: speed, memory, checkpoint traffic (minutes)
	$(BIN)/litmus bench
	$(BIN)/litmus bench memory
	$(BIN)/litmus bench checkpoints

check: .venv/.installed ## Lint, types, import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

up: setup ## Start the stack and follow its log; Ctrl-C stops it
	$(BIN)/litmus up

down: ## Stop the stack
	@if [ -x $(BIN)/litmus ]; then $(BIN)/litmus down; fi

clean: down ## Stop the stack and delete all its data; packages and jars stay
	@if [ -x $(BIN)/litmus ]; then for home in demo torture soak trust; do LITMUS_HOME=.litmus/$$home $(BIN)/litmus down >/dev/null; done; fi
	@if [ -d .litmus ]; then find .litmus -mindepth 1 -maxdepth 1 ! -name jars -exec rm -rf {} +; fi
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .venv/.ready

# Stamps, so that a second run installs nothing.

.venv/bin/python:
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo 'Python 3.11 with venv is needed: install python3.11 and python3.11-venv,' >&2; \
	  echo 'or say where it is: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: requirements.lock | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@printf '%s\n' '$(CURDIR)' > $(SITE)/litmus.pth
	@printf '%s\n' '#!/bin/sh' \
	  'export NUMBA_CACHE_DIR="$${NUMBA_CACHE_DIR:-$(CURDIR)/.litmus/numba}"' \
	  'exec "$(CURDIR)/$(BIN)/python" -P -m tools "$$@"' > $(BIN)/litmus
	@chmod +x $(BIN)/litmus
	@touch $@

# Compiled kernels are kept by their sources: after an upgrade they are compiled anew, here and not
# while the first events wait.
KERNELS := $(wildcard schemas/*.py ingest_gateway/*.py stream_processors/accumulate/*.py \
  stream_processors/accumulate/kernels/*.py)

.venv/.ready: .venv/.installed tools/kafka-jars.sha256 $(KERNELS)
	$(BIN)/litmus setup
	@touch $@
