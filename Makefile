# What a fresh machine with Python 3.11 or newer needs. Every command sets up by itself; nothing is left running.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# One stamp per set of packages. A changed pyproject.toml, or another Python, is newer and installs again.
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev

# Four workers, a file each, for two cores: the suite waits for servers as often as it computes. In the order of the
# files: by the number of their tests, the longest tests of all would come last, one worker waiting for the others.
test: PYTEST_OPTIONS ?= -n 4 --dist loadfile --no-loadscope-reorder
# What only computes has a worker for each core.
test-fast: PYTEST_OPTIONS ?= -n 2 --dist loadfile
BENCH_OPTIONS ?=
# The tests start many processes: each module is compiled once, not by each of them (`make clean` removes it).
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-real lint format bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## See a migration from beginning to end, in a minute, without a key or a network
	@$(BIN)/python -m examples.demo

test: $(DEV) ## Run every test (PYTEST_OPTIONS='-k fetch -x' for some; FAULT_SEED=random for other faults)
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS)

test-fast: $(DEV) ## Run the tests that need neither a server nor a process of their own, in under a minute
	@$(BIN)/python -m pytest --fast -r fE $(PYTEST_OPTIONS)

# In one process: a server that others use, too, is not to be asked for more at once than a run asks.
test-real: real-server-named $(DEV) ## Run the whole tool against the Typesense of TYPESENSE_TEST_URL and _API_KEY
	@$(BIN)/python -m pytest tests/real

.PHONY: real-server-named
real-server-named:
	@missing=; \
	for variable in TYPESENSE_TEST_URL TYPESENSE_TEST_API_KEY; do \
		[ -n "$$(printenv $$variable)" ] || { echo "$$variable is not set." >&2; missing=yes; }; \
	done; \
	[ -z "$$missing" ] || { \
		echo "Which Typesense? For the one that 'docker compose up' starts:" >&2; \
		echo "    TYPESENSE_TEST_URL=http://localhost:8108 TYPESENSE_TEST_API_KEY=xyz make test-real" >&2; \
		exit 2; \
	}

lint: $(DEV) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## Bring the code into the style that lint asks for
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEMO) ## Measure speed, CPU time and memory (BENCH_OPTIONS='--quick', see docs/performance.md)
	@$(BIN)/python -m benchmarks.run $(BENCH_OPTIONS)

clean: ## Remove the virtual environment and what the tools left behind
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEMO): pyproject.toml $(BIN)/python
	@echo "Installing what the demo needs ..."
	@$(PIP) install --editable '.[local,sandbox]'
	@touch $@

# The tests' packages are the demo's and more.
$(DEV): pyproject.toml $(BIN)/python
	@echo "Installing what the tests need ..."
	@$(PIP) install --editable '.[local,sandbox,postgresql,parquet,dev]'
	@touch $@ $(DEMO)

# Each candidate is started, not only looked up: a name on the PATH may lead nowhere. Debian and Ubuntu keep
# a part of venv in a package of its own, so that is tried as well. 3.14 comes late: not all packages are built for it.
$(BIN)/python:
	@without_venv=; \
	for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		"$$python" -c 'import venv, ensurepip' 2>/dev/null || { without_venv="$${without_venv:-$$python}"; continue; }; \
		echo "Making $(VENV) with $$("$$python" --version) ..."; \
		exec "$$python" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$without_venv" ]; then \
		version=$$("$$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "Python $$version is here, but not its module venv. On Debian and Ubuntu:" >&2; \
		echo "    apt-get install python$$version-venv" >&2; \
	else \
		echo "Python 3.11 or newer is needed; found: $$(python3 --version 2>&1 || true)" >&2; \
		echo "Install it, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	fi; \
	exit 1
