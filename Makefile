# make help lists the targets. PYTHON names the interpreter to build .venv with (default: the first
# of python3, python3.14 … python3.11 that is 3.11 or newer).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-compile -c constraints.txt
TORCH := $(shell grep '^torch==' constraints.txt)
QUIET_LIBRARIES := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTEST_ARGS ?=
# A process for each of two cores; the others start processes of their own. 5: PYTEST_ARGS chose none.
UNIT_TESTS = $(QUIET_LIBRARIES) $(BIN)/python -m pytest tests/unit --numprocesses 2 --dist loadfile $(PYTEST_ARGS) || [ $$? = 5 ]
# Much of their time is waiting for processes to start and to end. The longest files go first.
RAY_TESTS = $(QUIET_LIBRARIES) $(BIN)/python -m pytest tests/e2e/test_quickstart.py tests/cluster/test_train.py tests/e2e tests/cluster --numprocesses 2 --dist loadfile $(PYTEST_ARGS) || [ $$? = 5 ]
QUICKSTART_ARGS ?=

.PHONY: help venv dev lint format test test-unit quickstart clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

venv: $(VENV)/.installed ## make .venv with what running needs (reused while it is up to date)

dev: $(VENV)/.installed-dev ## make .venv with the tools for lint and tests too

# torch goes first and pinned: whatever is resolved after it takes the build that is there.
# compileall uses every core where pip uses one (55 CPU-seconds); some packages carry templates that
# are no Python, which pip passes over in silence too.
$(VENV)/.installed: constraints.txt pyproject.toml
	@started=$$(date +%s); \
	python=""; for candidate in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "stagebeam needs Python 3.11 or newer; none found. Name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 2; fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  echo "setup 1/3  making $(VENV) with $$("$$python" --version)"; rm -rf $(VENV); "$$python" -m venv $(VENV); \
	fi; \
	echo "setup 2/3  installing $(TORCH) (about 200 MB for CPU)"; $(PIP_INSTALL) $(TORCH); \
	echo "setup 3/3  installing ray, transformers, deepspeed and the rest (about 220 MB)"; $(PIP_INSTALL) -e .; \
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true; \
	echo "setup done in $$(( $$(date +%s) - started )) s"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "setup      installing the tools for lint and tests"; $(PIP_INSTALL) -e '.[dev]'
	@touch $@

lint: dev ## ruff, mypy --strict, the layer contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

format: dev ## let ruff put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint ## lint, then every test (real Ray, DeepSpeed and Serve; no GPU, no network)
	$(UNIT_TESTS)
	$(RAY_TESTS)

test-unit: dev ## the tests that need no Ray, in seconds
	$(UNIT_TESTS)

quickstart: venv ## annotate, fine-tune, serve, search and evaluate on the embedded default
	@$(BIN)/stagebeam quickstart $(QUICKSTART_ARGS)

clean: ## remove .venv, caches and runs/quickstart
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis runs/quickstart
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
