# run     start the daemon and a sample service, call it once
# test    every test
# check   lint, types, layers and the tests of the core: what to run while editing
# bench   a short load; BENCH=DIR runs the benchmark of that directory instead
.PHONY: run test check bench

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

run: $(INSTALLED)
	@exec $(BIN)/python contrib/sample/run.py

test: $(INSTALLED)
	$(BIN)/pytest

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/core tests/repository

bench: $(INSTALLED)
	@exec $(BIN)/python contrib/bench/run.py $(BENCH)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("restated needs Python 3.11 or later; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/python -m compileall -q restated  # pip does it for installed packages only
	@touch $@
