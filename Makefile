# `make help` lists the targets. The ones that need .venv create it first, and reinstall when the requirements change.

PYTHON ?= python3
VENV := .venv
# Everything runs in the environment, as after `. .venv/bin/activate`; DVC starts the stages with its `python`, in SHELL,
# which for a service's user may be /usr/sbin/nologin.
RUN := SHELL=/bin/sh PATH="$$PWD/$(VENV)/bin:$$PATH"
PIP := $(VENV)/bin/python -m pip install --disable-pip-version-check --no-user -c constraints.txt

# The build of torch: `cuda`, which downloads 3 GB of NVIDIA's libraries, `cpu`, from torch's own index, or what this machine needs.
TORCH ?= auto
ifeq ($(filter auto cpu cuda,$(TORCH)),)
$(error TORCH is $(TORCH); it takes auto, cpu or cuda)
endif
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
HAS_CUDA = [ "$$(uname -s)" != Linux ] || [ -e /proc/driver/nvidia/version ] || nvidia-smi -L > /dev/null 2>&1
BUILD = $(if $(filter auto,$(TORCH)),$(shell if $(HAS_CUDA); then echo cuda; else echo cpu; fi),$(TORCH))
REACHED = $(VENV)/bin/python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=10)' $(TORCH_CPU_INDEX)/torch/ 2> /dev/null

# DVC asks for a user name, which a bare user ID in a container lacks.
export LOGNAME ?= $(shell id -un 2>/dev/null)
# These would put packages elsewhere, or break the environment's Python or DVC.
unexport PIP_DRY_RUN PIP_NO_DEPS PIP_PREFIX PIP_ROOT PIP_TARGET PIP_USER PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONWARNINGS

.PHONY: repro test ui bench constraints clean help
.DELETE_ON_ERROR:

# The scripts in a virtual environment name its folder, so one that was moved or copied is recreated.
MADE_FOR = sed -n 's|^command = .* -m venv \(--[a-z-]* \)*\(/.*/$(VENV)\)$$|\2|p' $(VENV)/pyvenv.cfg 2>/dev/null
MOVED := $(shell folder="$$($(MADE_FOR))"; [ -z "$$folder" ] || [ "$$folder" -ef $(VENV) ] || echo moved)
ifdef MOVED
.PHONY: $(VENV)/bin/python $(VENV)/installed
endif

# The stamp holds the build that was asked for: another one is installed anew.
ifneq ($(TORCH),auto)
ifneq ($(TORCH),$(shell cat $(VENV)/installed 2>/dev/null))
.PHONY: $(VENV)/installed
ANEW := --force-reinstall
endif
endif

repro: $(VENV)/installed ## Run the whole pipeline and say where to look
	@$(RUN) plumage repair
	@$(RUN) plumage data check
	@$(RUN) dvc repro
	@$(RUN) plumage summary

test: $(VENV)/installed-dev ## Run lint, types and tests
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) lint-imports --no-logo
	@$(RUN) python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

ui: $(VENV)/installed ## Open MLflow's pages at http://127.0.0.1:5000
	@$(RUN) plumage ui

bench: $(VENV)/installed-dev ## Run the benchmarks
	@$(RUN) python benchmarks/run.py

# Strips local version suffixes (torch==2.9.0+cpu), so that any build of the release matches.
constraints: ## Update constraints.txt to the newest releases that requirements allow
	@$(PYTHON) -c 'import sys; sys.exit((sys.platform, *sys.version_info[:2]) != ("linux", 3, 11) and "error: constraints.txt needs Python 3.11 on Linux, this is " + sys.version.split()[0] + " on " + sys.platform + "; make PYTHON=python3.11 constraints")'
	@echo "Installing the newest releases into .constraints (a few minutes) ..."
	@rm -rf .constraints
	@$(PYTHON) -m venv .constraints
	@.constraints/bin/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@.constraints/bin/python -m pip freeze > .constraints/frozen.txt
	@sed -E 's/\+[[:alnum:].]+$$//' .constraints/frozen.txt > .constraints/constraints.txt
	@mv .constraints/constraints.txt constraints.txt
	@rm -rf .constraints

clean: ## Remove .venv, build leftovers and tool caches; keep data, models, runs and DVC's cache
	rm -rf $(VENV) .constraints .bench build dist src/*.egg-info
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find benchmarks pipeline src tests -name __pycache__ -prune -exec rm -rf {} +

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Plumage takes Python 3.11 or newer, this is " + sys.version.split()[0] + "; make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/installed: requirements.txt constraints.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (once; some minutes) ..."
	@if [ "$(BUILD)" = cuda ]; then [ -z "$(ANEW)" ] || $(PIP) $(ANEW) --no-deps torch torchvision; \
	elif $(REACHED) && $(PIP) --index-url $(TORCH_CPU_INDEX) $(ANEW) --no-deps torch torchvision; then :; \
	else echo "$(TORCH_CPU_INDEX) gave no torch: it comes with CUDA, which takes 4 GB more"; fi
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --editable .
	@test -x $(VENV)/bin/plumage || { echo "error: pip installed elsewhere than into $(VENV); see \`pip config list\`" >&2; exit 1; }
	@echo $(TORCH) > $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@echo "Installing what the tests need ..."
	@$(PIP) -r requirements-dev.txt
	@touch $@
