# Everything sets itself up; the environment is .venv, made by .ci/setup. Another interpreter: PYTHON=python3.13 make test

PYTHON ?= python3
ARGS ?=
SECONDS ?= 600
ROOM ?=

SHELL := /bin/sh
PY := .venv/bin/python
GOALS := $(or $(MAKECMDGOALS),help)
LEVEL := $(if $(filter bench,$(GOALS)),bench,$(if $(filter lint format,$(GOALS)),lint,$(if $(filter test prove mutate failure-matrix invalidation-matrix,$(GOALS)),test,demo)))

.PHONY: help setup demo test bench prove mutate failure-matrix invalidation-matrix lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     the region resolver: its cache store fails, its answers do not   (ARGS=... for its options)"
	@echo "make test     all tests, README and docs, with 100 % branch coverage            (ARGS=... for pytest: no coverage then)"
	@echo "make bench    how fast it is beside other libraries and the bare operation       (ARGS='hits remote outage tier', --write)"
	@echo "make prove    simulated outages, as many as fit in SECONDS=600                  (ARGS=... for its options)"
	@echo "make failure-matrix   play every real fault with the defaults, 4 minutes, and write docs/reference/failure-matrix.md"
	@echo "make invalidation-matrix   what other processes read after an invalidation, 10 minutes, and write docs/reference/invalidation-matrix.md"
	@echo "make mutate   mutation testing of rooms and flows, gated                        (ROOM=breaker or several; half an hour for all)"
	@echo "make lint     ruff, ruff format, mypy, pyright"
	@echo "make format   let ruff sort the imports and lay out the code"
	@echo "make clean    remove the environment and everything generated"
	@echo "Each sets itself up in .venv; PYTHON=python3.13 make ... selects the interpreter."

# One set-up for all goals of this call, so that 'make -j test lint' installs once.
setup:
	@PYTHON='$(PYTHON)' sh .ci/setup $(LEVEL)

demo: setup
	@$(PY) -m examples.region_resolver $(ARGS)

ifeq ($(strip $(ARGS)),)
test: setup
	sh .ci/tests
else
test: setup
	$(PY) -m pytest $(ARGS)
endif

bench: setup
	.venv-bench/bin/python -m tests.benchmarks $(ARGS)

prove: setup
	$(PY) -m tests.prove --seconds $(SECONDS) $(ARGS)

failure-matrix: setup
	$(PY) -m tests.faults

invalidation-matrix: setup
	$(PY) -m tests.invalidation

mutate: setup
	$(PY) -m tests.mutation $(ROOM)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pyright --pythonpath $(PY)

format: setup
	$(PY) -m ruff check --fix --select I .
	$(PY) -m ruff format .

clean:
	rm -rf .venv .venv-bench .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
