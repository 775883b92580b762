PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
QUIX := .venv-quix/bin/python
# Tests wait now and then: a process more than there are cores.
PYTEST := $(BIN)/python -m pytest -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist loadfile --no-loadscope-reorder
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.PHONY: help demo install lock status test test-fast lint types imports bench docs bench-live soak
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv with everything needed to run and develop

$(INSTALLED): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Tape needs Python 3.11 or later; name one: make install PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing into .venv: the first time, this downloads about 190 MB and takes about 740 MB of disk."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

lock: ## write requirements*.txt anew from pyproject.toml (needs uv: pip install uv)
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) --extra dev -c requirements.txt pyproject.toml -o requirements-dev.txt

demo: install ## what Tape does, on the data that come with it: no Docker, no JDK
	$(BIN)/tape demo

status: ## how the newest log under runs/ stands
	$(BIN)/tape status

test: install ## run the tests; those on Kafka start a broker (Docker, or a JDK 17 with Maven)
	$(PYTEST)

test-fast: install ## run the tests but for those on Kafka
	$(PYTEST) -m "not soak and not kafka"

soak: install ## kill the whole live plane a hundred times on a Kafka of its own, and what else takes long: an hour
	$(BIN)/python -m pytest -m soak -s
	TAPE_ALL=1 $(BIN)/python -m pytest -m "not soak" -k "kill or every_seq or every_fill"

lint: install ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## check types
	$(BIN)/mypy

imports: install ## check which folder imports which
	$(BIN)/lint-imports

docs: install ## write the pages of commands and settings anew from the code itself
	$(BIN)/typer tape.cli utils docs --name tape | tr -d '\b' | cat -s > docs/reference/commands.md
	$(BIN)/python -m tape.reference > docs/reference/settings.md

bench-live: install $(QUIX) ## the live core on Kafka beside bare clients and Quix Streams; takeovers, restarts
	$(BIN)/python -m benchmarks.live $(QUIX)
	$(BIN)/python -m benchmarks.takeover

$(QUIX): benchmarks/quix-requirements.txt
	$(PYTHON) -m venv .venv-quix
	$(QUIX) -m pip install --quiet --require-hashes -r benchmarks/quix-requirements.txt
	@touch $@

bench: install ## run the benchmarks
	$(BIN)/python -m benchmarks
