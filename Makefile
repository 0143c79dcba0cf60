# make run: the demonstration; make test: the whole suite. Each first makes .venv from PyPI.
# make run ARGS="my.py --until p1"    runs another config
# make test ARGS="-k pipeline"        runs a part of the tests

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
ARGS ?=
PIP_FLAGS := --disable-pip-version-check --quiet
NEEDS := setup.cfg pyproject.toml

# programs of the packages installed, such as DP3.py, are found there
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help run test docs lint bench bench-peers bench-random torture clean

help:
	@echo "make run          install into $(VENV), then self-calibrate the demonstration"
	@echo "make test         install with the test tools, then run the whole suite"
	@echo "make docs         the documentation, in docs/_build/index.html"
	@echo "make lint         ruff and mypy"
	@echo "make bench        figures of speed and quality (slow)"
	@echo "make bench-peers  the same beside other programs, where they are installed (slow)"
	@echo "make bench-random random observations scored against their truth (slow)"
	@echo "make torture      broken settings, broken data, runs killed: counts of faults (slow)"
	@echo "make clean        remove $(VENV) and what tools left behind; data stay"

run: $(VENV)/.installed-run
	$(BIN)/python auto_selfcal.py $(ARGS)

# one thread each, since JOBS processes share the cores; tests/conftest.py puts long files first
test: $(VENV)/.installed-test
	NUMBA_NUM_THREADS=$${NUMBA_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=1 MPLBACKEND=Agg \
	    $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
	    --durations 30 $(ARGS)

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks --peers $(ARGS)

# the cases run side by side: one thread each
bench-random: $(VENV)/.installed-test
	NUMBA_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.campaign.run $(ARGS)

torture: $(VENV)/.installed-test
	NUMBA_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.torture.run $(ARGS)

# An interrupted make leaves no stamp, so the next call goes on where it stopped.
$(BIN)/python:
	@python=""; \
	for name in $${PYTHON:-} python3.11 python3.12 python3.13 python3; do \
	    if "$$name" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        python="$$name"; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "make: no Python >= 3.11 with venv found; install one, or name it: make PYTHON=..." >&2; \
	    exit 1; \
	fi; \
	"$$python" -m venv $(VENV)

$(VENV)/.installed-run: $(NEEDS) | $(BIN)/python
	@echo "installing into $(VENV) (some minutes, 3 GB; done once)"
	$(BIN)/python -m pip install $(PIP_FLAGS) -e .
	@$(BIN)/python -m libs.warm_up
	@touch $@

$(VENV)/.installed-test: $(NEEDS) | $(BIN)/python
	@echo "installing into $(VENV) (some minutes, 3 GB; done once)"
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[test,docs,notebook,lofar,ata,cluster]'
	@$(BIN)/python -m libs.warm_up
	@touch $(VENV)/.installed-run $@

$(VENV)/.installed-dev: $(NEEDS) | $(BIN)/python
	@echo "installing into $(VENV) (some minutes, 3 GB; done once)"
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[test,dev]'
	@touch $(VENV)/.installed-run $@

$(VENV)/.installed-docs: $(NEEDS) | $(BIN)/python
	@echo "installing into $(VENV) (some minutes, 3 GB; done once)"
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[docs]'
	@touch $(VENV)/.installed-run $@

clean:
	rm -rf $(VENV) docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
