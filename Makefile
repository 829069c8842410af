# `make` alone lists the targets.
# the first Python that is new enough and can create virtual environments
PYTHON ?= $(or $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$python && break; \
	done),python3)
VENV ?= .venv
ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
DEMO := ckpt_path=auto trainer.progress=lines
SOURCES := setup.cfg pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run demo gpu-check test test-slow test-browser lint type format venv docs docs-serve release-check clean

help: ## list the targets
	@echo "make TARGET [ARGS='...'] [PYTHON=python3.11] [VENV=.venv]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-14s%s\n", $$1, $$2}'

run: $(RUN) ## fine-tune the built-in model; ARGS="experiment=shapes_flowgrpo seed=1" passes overrides
	$(BIN)/python -m drift_pl.fit $(ARGS)

demo: $(RUN) ## plain Flow-GRPO and DRIFT side by side on pictograms, and the page that compares them; about ten minutes
	@$(BIN)/python -m drift_pl.fit experiment=emoji_flowgrpo run_dir=runs/demo/plain $(DEMO) $(ARGS) & plain=$$!; \
		$(BIN)/python -m drift_pl.fit experiment=emoji_div run_dir=runs/demo/drift $(DEMO) $(ARGS); drift=$$?; \
		wait $$plain && exit $$drift
	$(BIN)/python -m drift_pl.report runs/demo/plain runs/demo/drift out=runs/demo/report
	$(BIN)/python -m drift_pl.pareto runs/demo/plain runs/demo/drift out=runs/demo/fronts \
		"diversity=[styles,pairwise_distance]"

gpu-check: $(DEV) ## full-size models with random weights on your GPU: speed, memory, checks; ARGS=--quick for three minutes
	$(BIN)/python benchmarks/gpu_check.py $(ARGS)

test: $(DEV) ## run the test suite in two processes (WORKERS=0: in one); ARGS="-k rollout" goes to pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-slow: $(DEV) ## run all tests, including the slow ones
	$(BIN)/python -m pytest -m "not browser" $(ARGS)

test-browser: $(DEV) ## layout and keys of report.html, in Chromium (apt-get install chromium)
	$(BIN)/python -m pytest -m browser $(ARGS)

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

type: $(DEV) ## mypy alone
	$(BIN)/mypy

format: $(DEV) ## format and fix the sources with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(DEV) ## create the virtual environment with everything for development

docs: $(DEV) ## build the documentation's site into build/site, strictly: settings and links are checked
	$(BIN)/python docs/make/settings_page.py
	$(BIN)/python -m mkdocs build

docs-serve: $(DEV) ## show the documentation on http://127.0.0.1:8000, with search, as it is edited
	$(BIN)/python -m mkdocs serve

release-check: $(RUN) ## wheel and sdist of what is committed, installed in a clean environment; the main job from there
	.ci/release-check $(BIN)/python

clean: ## remove the environment, caches and builds; runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find drift_pl tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1);" \
		"name one with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUN): $(SOURCES) | $(BIN)/python
	@echo "installing into $(VENV): some minutes, most of them for torch"
	@.ci/torch-for-this-machine $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(DEV): $(SOURCES) | $(BIN)/python
	@echo "installing into $(VENV), for development: some minutes, most of them for torch"
	@.ci/torch-for-this-machine $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@ $(RUN)
