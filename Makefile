# Everything here needs Python 3.11 or newer, pip and make, and nothing else.
# Environments are made on first use and again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
WORKERS ?= 2
BACKENDS ?= jax tensorflow torch
KERAS_OLDEST ?= 3.8.0
KERAS_NEWEST ?= $(shell sed -n 's/^keras==//p' constraints.txt)

BIN := .venv/bin
ENVIRONMENT := $(PYTHON) scripts/environment.py
INSTALLED := pyproject.toml constraints.txt
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
# The demo needs one backend only; where the whole set is installed, it uses that.
DEMO := $(if $(wildcard .venv/.complete),.venv,.venv-demo)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME
# The environments are installed uncompiled: what is imported is compiled once, not by every process anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-fast doctest lint format types wheel wheel-test check trace-matrix clean python

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: $(DEMO)/.complete ## explain the shipped models and data into demo-output/
	KERAS_BACKEND=jax $(DEMO)/bin/kerascope demo --out demo-output --force
	@echo "Everything the demo wrote lies in $(CURDIR)/demo-output; open demo-output/*/report.html in a browser."

test: .venv/.complete ## the suite under each backend in turn; what needs no backend runs once
	@failed=; first=1; for backend in $(BACKENDS); do \
	  echo "== KERAS_BACKEND=$$backend"; \
	  if [ $$first = 1 ]; then chosen=; else chosen='not backend_free'; fi; first=0; \
	  KERAS_BACKEND=$$backend $(PYTEST) -m "$$chosen" $(ARGS) || failed="$$failed $$backend"; \
	done; \
	if [ -n "$$failed" ]; then echo "The suite failed under:$$failed"; exit 1; fi; \
	echo "The suite passed under: $(BACKENDS)"

test-fast: .venv/.complete ## the suite under one backend, without the slow tests
	KERAS_BACKEND=$(firstword $(BACKENDS)) $(PYTEST) -m "not slow" $(ARGS)

doctest: .venv/.complete ## the examples in the docstrings
	KERAS_BACKEND=jax $(BIN)/python -m pytest -p tests.conftest -p no:cacheprovider --doctest-modules \
	  --doctest-continue-on-failure --ignore=src/kerascope/backend src/kerascope || [ $$? -eq 5 ]

lint: .venv/.complete ## style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/.complete ## put the format right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/.complete ## the type checker, strict
	$(BIN)/mypy

wheel: python ## dist/kerascope-….whl
	rm -f dist/kerascope-*.whl
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/kerascope-*.whl

wheel-test: wheel ## install the wheel into an empty environment and run the README's first lines there
	$(PYTHON) scripts/wheel_test.py dist/kerascope-*.whl

check: lint types test doctest ## all that a change must pass

trace-matrix: .venv-keras-$(KERAS_OLDEST)/.complete .venv-keras-$(KERAS_NEWEST)/.complete ## trace every case model on the oldest and the newest Keras
	@status=0; for version in $(KERAS_OLDEST) $(KERAS_NEWEST); do \
	  KERAS_BACKEND=jax .venv-keras-$$version/bin/python scripts/trace_matrix.py $(ARGS) || status=1; \
	done; exit $$status

clean: ## remove every environment and everything built
	rm -rf .venv .venv-* build dist demo-output .mypy_cache .pytest_cache .ruff_cache .hypothesis

python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: kerascope needs Python 3.11 or newer. Name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) scripts/environment.py --check

.venv/.complete: $(INSTALLED) | python
	$(ENVIRONMENT) .venv --extras jax,torch,test,dev

.venv-demo/.complete: $(INSTALLED) | python
	$(ENVIRONMENT) .venv-demo --extras jax

.venv-keras-%/.complete: $(INSTALLED) | python
	$(ENVIRONMENT) .venv-keras-$* --extras jax --pin keras==$*
