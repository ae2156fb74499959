# make demo   three real fine-tuning runs, live (FINETUI_HEADLESS=1 for progress lines instead of the screen)
# make test   everything that must pass before a change lands
PYTHON ?= python3
BIN := .venv/bin
# What is imported in a hundred processes is compiled once.
export PYTHONDONTWRITEBYTECODE :=

# All tests of the store run a second time, with DuckDB 2, but for the one that has both in any case.
DUCKDB_2 := $(CURDIR)/.venv/duckdb-2
DUCKDB_2_TESTS := tests/store --ignore=tests/store/test_versions.py

.PHONY: install demo test lint types unit duckdb-2 docs format

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt scripts/install.sh
	@PYTHON=$(PYTHON) scripts/install.sh

demo: install
	@$(BIN)/finetui demo

# Types and layout are checked, and DuckDB 2 tried, while the tests begin.
test: install
	@$(MAKE) --no-print-directory -j4 lint types unit duckdb-2

unit: install
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 4 --dist loadscope --no-loadscope-reorder -q

duckdb-2: install
	@OMP_NUM_THREADS=1 PYTHONPATH=$(DUCKDB_2) $(BIN)/pytest -q $(DUCKDB_2_TESTS)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: install
	@$(BIN)/mypy

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: install
	@$(BIN)/python scripts/make_docs.py
