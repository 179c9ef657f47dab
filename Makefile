# The only door to the project. It needs make and Python 3.11 or newer; every target makes the environment it uses.
#
#   PYTHON=python3.12    the interpreter; without it, what scripts/find-python.sh finds
#   ARGS="-k flask -x"   arguments for pytest (the coverage is then not measured) or for the benchmarks
#   APP=flask PORT=8001  what `make demo` and `make demo-shop` serve, and where
#   DATABASE_URL=...     where `make demo` keeps it (sqlite:///conduit.db, postgresql://..., mariadb://...); SEED=1 fills it
#   BROKER=amqp://...    through what `make demo-celery` sends
#   BETWEEN="--ignore=tests/backends"    arguments of pytest that `make test-others` adds but for the newest Python

UV_VERSION := 0.13.9
SUPPORTED  := 3.11 3.12 3.13

PYTHON     ?= $(shell sh scripts/find-python.sh)
APP        ?= starlette
PORT       ?= 8000
BROKER     ?= filesystem://
ARGS       ?=
BETWEEN    ?=

# `make test-others` sets these for the environments of the other versions.
VENV       := .venv
SYNC       := --all-groups
COVERAGE   := --cov --cov-report=term

# Those that start web servers, workers and browsers as processes of their own, and therefore take minutes.
CONDUIT    := tests/examples/conduit
REAL       := tests/servers tests/truth tests/workers tests/load tests/backends/test_kills.py tests/examples/test_shop_serve.py \
              $(CONDUIT)/test_servers.py $(CONDUIT)/test_demo.py $(CONDUIT)/test_pages_in_chromium.py

# By module: the tests of one share its servers, and the examples of a page go on from each other.
PARALLEL   := --numprocesses=auto --dist=loadfile
# These wait for the processes that they start, most of the time.
WAITING    := --numprocesses=4 --dist=loadfile

READY      := $(VENV)/.ready
RUN        := $(VENV)/bin/python
INSTALL    := $(VENV)/bin/uv pip install --python .venv-bench/bin/python
BENCH      := PYTHONPATH=src:integrations .venv-bench/bin/python -m tests.benchmarks

# $(call quiet,COMMAND): what it prints is shown only if it fails.
quiet = out=$$($(1) 2>&1) || { printf '%s\n' "$$out" >&2; exit 1; }

# Where it is set, each of the many processes that tests start would compile anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo demo-shop demo-celery test test-real test-all test-others check docs bench bench-check bench-conduit soak proof scale transparency truth clean stale

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
	    while IFS='|' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

demo: $(READY) ## Serve Conduit, a site and an API (APP=starlette, fastapi, flask or django; PORT=8000; DATABASE_URL=...; SEED=1)
	@exec $(RUN) -m conduit.serve --app $(APP) --port $(PORT)

demo-shop: $(READY) ## Serve the tutorial's shop (APP and PORT as above)
	@exec $(RUN) -m shop.serve --app $(APP) --port $(PORT)

demo-celery: $(READY) ## Serve the shop with a Celery worker (BROKER=amqp://..., redis://...; default: files)
	@exec $(RUN) -m shop.serve --app $(APP) --port $(PORT) --broker $(BROKER)

test: $(READY) ## Run the suite and measure the coverage of the core
	@$(if $(ARGS),,POLYDATUM_TESTS=rest) $(RUN) -m pytest $(or $(ARGS),$(PARALLEL) $(COVERAGE) $(REAL:%=--ignore=%))

test-real: $(READY) ## Run the tests of real web servers, workers and browsers, which take minutes
	@$(if $(ARGS),,POLYDATUM_TESTS=real) $(RUN) -m pytest $(WAITING) $(or $(ARGS),$(REAL))

test-all: test-others test-real test ## Run every test, and the suite on every supported Python found on this machine

test-others: $(READY) # on all but the Python of `make test`, which alone tests the examples and has the faults of servers
	@own=$$($(RUN) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(SUPPORTED); do \
	    [ "$$version" != "$$own" ] || continue; \
	    if ! python=$$(sh scripts/find-python.sh "$$version" 2>/dev/null); then \
	        echo "Python $$version: not found here, skipped"; continue; \
	    fi; \
	    echo "Python $$version: $$python"; \
	    [ "$$version" = "$(lastword $(SUPPORTED))" ] && between="" || between="$(BETWEEN)"; \
	    POLYDATUM_FAULTS=singles $(MAKE) --no-print-directory test PYTHON="$$python" VENV=".venv-$$version" \
	        ARGS="$(PARALLEL) $(REAL:%=--ignore=%) --ignore=tests/examples --ignore-glob=tests/backends/*_faults.py $$between" \
	        SYNC="--no-default-groups --group test" || exit 1; \
	done

check: $(READY) ## Check format, style, types, import floors and docs
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check
	$(RUN) -m mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(RUN) -m pyright --project pyproject.toml
	$(VENV)/bin/lint-imports --no-logo
	@$(MAKE) --no-print-directory docs

docs: $(READY) ## Build the documentation in docs/_build/html
	$(RUN) -m sphinx -n -W --keep-going -q -b html docs docs/_build/html

bench: .venv-bench/.ready ## Measure against hand-written limits and the peers
	@$(BENCH) $(ARGS)

bench-check: .venv-bench/.ready ## Fail if a ratio is worse than its budget by more than 20 %
	@$(BENCH) --check $(ARGS)

bench-conduit: $(READY) ## Drive Conduit's four hosts and the same wired by hand, and print the ratios (ARGS="--app flask --rounds 1")
	@$(RUN) -m tests.load $(ARGS)

soak: $(READY) ## Fire 100,000 mixed requests at real servers over PostgreSQL and Redis, and look at the books (ARGS="--requests 10000")
	@$(RUN) -m tests.soak $(or $(ARGS),--requests 100000)

proof: $(READY) ## Run 2,000 commands in four Celery workers, and look at the books (ARGS="--commands 200")
	@$(RUN) -m tests.workers.proof $(ARGS)

scale: $(READY) ## Measure how many commands 1, 2 and 4 Celery workers get done
	@$(RUN) -m tests.workers.scale $(ARGS)

transparency: $(READY) ## Run the frameworks' own test suites with and without the adapters (ARGS=flask; needs the package index)
	@$(RUN) -m tests.transparency $(ARGS)

truth: .venv-truth/.ready ## Ask the peers and us, over real servers, what the client is told and what is kept (ARGS=--pages)
	@.venv-truth/bin/python -m tests.truth $(ARGS)

clean: ## Remove environments, caches, everything built, and what the demo kept
	rm -rf .venv .venv-* build dist docs/_build htmlcov .coverage .coverage.* conduit.db* \
	    .grimp_cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments --------------------------------------------------------------------------------------------------

# A stamp tells that the environment fits the lock. It is begun anew if its interpreter has gone, or if another one is
# asked for than it was made with.
ifeq ($(wildcard $(RUN)),)
    STALE := stale
else ifneq ($(origin PYTHON),file)
    ifneq ($(shell cat $(VENV)/.python 2>/dev/null),$(PYTHON))
        STALE := stale
    endif
endif

$(READY): pyproject.toml uv.lock $(STALE)
	@if [ -n "$(STALE)" ]; then \
	    python="$(PYTHON)"; [ -n "$$python" ] || exit 1; \
	    echo "Making $(VENV) with $$python; the first time takes a minute or two"; \
	    $(call quiet,"$$python" -m venv --clear $(VENV)); \
	    echo "$$python" > $(VENV)/.python; \
	fi
	@$(call quiet,$(RUN) -m pip install -q uv==$(UV_VERSION))
	@$(call quiet,UV_PROJECT_ENVIRONMENT=$(VENV) UV_PYTHON_DOWNLOADS=never \
	    $(VENV)/bin/uv sync --python $(RUN) --locked --all-extras $(SYNC) --inexact)
	@touch $@

.venv-truth/.ready: tests/truth/requirements.txt | $(READY)
	@echo "Making .venv-truth with the peers and their frameworks"
	@$(call quiet,$(VENV)/bin/uv venv --clear --python $(RUN) .venv-truth)
	@$(call quiet,$(VENV)/bin/uv pip install --python .venv-truth/bin/python -r $<)
	@touch $@

# The peers. One of them, the published polydatum 0.9.1, has our import name and therefore a folder of its own.
.venv-bench/.ready: tests/benchmarks/requirements.txt tests/benchmarks/requirements-upstream.txt | $(READY)
	@echo "Making .venv-bench with the peers"
	@$(call quiet,$(VENV)/bin/uv venv --clear --python $(RUN) .venv-bench)
	@$(call quiet,$(INSTALL) -r tests/benchmarks/requirements.txt)
	@$(call quiet,$(INSTALL) --no-deps --target .venv-bench/upstream -r tests/benchmarks/requirements-upstream.txt)
	@touch $@
