# One verb each. `make` alone says what there is.
PARAMS ?= params/demo.yaml
DATA ?=
RUN ?= runs/demo
LAB ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help report test lessons guides suite check extras coverage lab site bench readme hooks lock clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# The environment: uv where it is found, else venv and pip; versions from the lock.
$(READY): requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  echo "environment in $(VENV), with uv"; \
	  [ -x $(BIN)/python ] || uv venv --quiet --seed --python '>=3.11,<3.14' $(VENV); \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps -e .; \
	else \
	  python=; for name in python3.13 python3.12 python3.11 python3; do \
	    if $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
	    then python=$$name; break; fi; done; \
	  if [ -z "$$python" ]; then echo "no Python 3.11, 3.12 or 3.13 on the PATH: install one" \
	    "(TensorFlow and gensim have no packages for others), then make again." >&2; exit 1; fi; \
	  echo "environment in $(VENV), with $$python and pip (a few minutes, 4 GB)"; \
	  [ -x $(BIN)/python ] || $$python -m venv $(VENV); \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .; \
	fi
	@touch $@

report: $(READY) ## the whole report: PARAMS=params/demo.yaml, or params/sample.yaml with DATA=<folder>
	$(BIN)/msd-genre report $(PARAMS) $(if $(DATA),--data "$(DATA)")

# Not the suite beside them: two processes that fill numba's cache at once, for librosa, spoil it.
test: $(READY) ## lessons, guides and tests; MSD_GENRE_DATA=<folder> for those on real songs
	@$(MAKE) --no-print-directory --keep-going --jobs 2 lessons guides
	@$(MAKE) --no-print-directory suite

# nbdev_test, but that no lesson's shell collects garbage at the end, which takes half a minute.
EXECUTE := $(BIN)/python -c 'import gc, sys; from nbdev.test import nbdev_test; \
  nbdev_test(sys.argv[1], n_workers=0, do_print=True); gc.freeze()'

lessons: $(READY) ## the cells of the modules' notebooks
	@$(EXECUTE) nbs/api

guides: $(READY) ## the cells of the guides
	@$(EXECUTE) nbs/guides

suite: $(READY) ## the tests alone
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What differs from the last commit, or where nothing does, what that commit changed.
CHANGED = $(shell git diff --name-only HEAD | grep . || git diff --name-only HEAD~1)
CHANGED_API = $(filter nbs/api/%.ipynb,$(wildcard $(CHANGED)))
CHANGED_TESTS = $(sort tests/test_project.py $(wildcard $(shell printf '%s\n' $(CHANGED) | sed -nE \
  -e '/^tests\/(.*\/)?test_[^/]*\.py$$/p' -e 's#nbs/api/(.*/)?([0-9]+_)?([^/]*)\.ipynb#tests/\1test_\3.py#p')))

check: $(READY) ## what a commit must pass: exported, clean, linted, typed, tested; FAST=1 tests what changed, in 2 minutes
	@before=$$(git diff | git hash-object --stdin); $(BIN)/nbdev_export && $(BIN)/nbdev_clean || exit 1; \
	if [ "$$before" != "$$(git diff | git hash-object --stdin)" ]; then git diff --stat; \
	  echo "a notebook was not exported or not clean, and is now: look at it, then make check again" >&2; exit 1; fi
	$(BIN)/ruff check .
	$(BIN)/mypy
ifdef FAST
	@for notebook in $(CHANGED_API); do echo "cells of $$notebook"; $(EXECUTE) $$notebook || exit 1; done
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(CHANGED_TESTS)
else
	$(MAKE) test
endif

extras: $(READY) ## the package in empty environments, plain and with each extra: 10 minutes
	$(BIN)/python .ci/extras.py

coverage: $(READY) ## which lines no test runs; MSD_GENRE_DATA as for test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

lab: $(READY) ## JupyterLab, on a page that says where to go; LAB="--no-browser --port 8889" for its options
	JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter" $(BIN)/jupyter lab $(LAB)

site: $(READY) ## the pages of a finished run again: RUN=runs/demo
	$(BIN)/msd-genre site $(RUN)

bench: $(READY) ## measure and write results/benchmarks/: 40 minutes, 12 GB of disk; DATA=<folder> for real songs
	$(BIN)/python benchmarks/read_songs.py $(if $(DATA),--data "$(DATA)")
	$(BIN)/python benchmarks/text_join.py
	$(BIN)/python benchmarks/build_scaling.py
	$(BIN)/python benchmarks/demo_size.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/neighbours.py
	$(BIN)/python benchmarks/song_map.py
	$(BIN)/python benchmarks/als.py

readme: $(READY) ## README.md from nbs/index.ipynb, executed anew from the record in results/
	$(BIN)/jupyter nbconvert --log-level WARN --execute --inplace nbs/index.ipynb
	$(BIN)/nbdev_clean --fname nbs/index.ipynb
	$(BIN)/jupyter nbconvert --log-level WARN --to markdown --no-input nbs/index.ipynb \
	  --output-dir . --output README --NbConvertApp.output_files_dir=nbs/images
	sed -i.bak -E -e 's#!\[png\]#![Scores of the networks with their intervals]#' \
	  -e 's#\]\((report|guides|api)/#](nbs/\1/#g' README.md && rm README.md.bak

hooks: ## git keeps notebooks clean and merges them by cell
	git config --local include.path ../.gitconfig

lock: ## requirements.lock from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --extra report --extra dev --no-header --no-annotate \
	  --quiet --upgrade pyproject.toml -o requirements.lock

clean: ## remove what was made, but for the environment and the raw data
	rm -rf runs _site _proc build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage*
