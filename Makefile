# Two commands on a fresh machine: `make serve` talks, `make test` proves.
# Needs Python >= 3.11 with pip and venv, and a C++ compiler; everything else installs itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FILE ?= routing.yaml
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The package itself, without asking any index: what it needs is in the lock.
SELF := $(PIP) --no-deps --no-build-isolation --editable .

.DEFAULT_GOAL := help
.PHONY: help serve test test-quick lint format engines model bench check lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

serve: $(VENV)/.serve ## Serve routing.yaml (or FILE=…) on http://127.0.0.1:8088/v1
	@$(BIN)/gateway serve $(FILE)

check: $(VENV)/.serve ## Check routing.yaml (or FILE=…) and show what it comes to
	@$(BIN)/gateway check $(FILE)

test: $(VENV)/.dev engines ## Run all tests, on real engines
	@$(PIP) --no-deps --no-index "$$($(PYTHON) -m tools.engines path llama-cpp-python)"
	$(BIN)/pytest

test-quick: $(VENV)/.dev ## Run the tests that take a moment each, and no engine but MLX
	$(BIN)/pytest -m "not engine and not slow"

engines: ## Build llama-server, llama-cpp-python and vLLM once, into the user's cache
	@$(PYTHON) -m tools.engines build

lint: $(VENV)/.dev ## Check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## Put the code into its format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev ## Measure what the gateway costs per request and per chunk
	$(BIN)/python -m bench

model: ## Train the model that ships, from its grammar, and examine it (about 25 minutes)
	$(PYTHON) -m tools.tiny_tale

lock: $(VENV)/.dev ## Bring the lock files up to date with pyproject.toml
	$(PIP) uv==0.13.8
	for set in "serve --extra mlx --group build" "dev --extra mlx --extra mlx-vlm --extra llama-cpp --extra srv --group dev"; do \
	  set -- $$set; name=$$1; shift; \
	  $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 \
	    --no-emit-package llama-cpp-python --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	    "$$@" --output-file requirements/$$name.lock || exit 1; \
	done

clean: ## Remove the virtual environment and what tools left behind
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements/serve.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing what the gateway needs"
	@$(PIP) --require-hashes --requirement requirements/serve.lock
	@$(SELF)
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing what the gateway and its tests need"
	@$(PIP) --require-hashes --requirement requirements/dev.lock
	@$(SELF)
	@touch $@ $(VENV)/.serve
