# make repro: the whole pipeline. make test: lint, types, tests. make ui: MLflow's pages. make bench: the benchmarks.
# Each makes .venv and installs first, once; again when the requirements change.

PYTHON ?= python3
VENV := .venv
# Everything runs in the environment, as after `. .venv/bin/activate`; DVC starts the stages with its `python`.
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: repro test ui bench
.DELETE_ON_ERROR:

repro: $(VENV)/installed
	@$(RUN) plumage repair
	@$(RUN) dvc repro
	@$(RUN) plumage summary

test: $(VENV)/installed-dev
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) python -m pytest --numprocesses auto --dist loadfile

ui: $(VENV)/installed
	@$(RUN) plumage ui

bench: $(VENV)/installed-dev
	@$(RUN) python benchmarks/run.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Plumage takes Python 3.11 or newer, this is " + sys.version.split()[0] + "; make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt constraints.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (once; some minutes) ..."
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@echo "Installing what the tests need ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@
