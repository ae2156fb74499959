# make demo   three real fine-tuning runs, live (FINETUI_HEADLESS=1 for progress lines instead of the screen)
# make test   everything that must pass before a change lands
PYTHON ?= python3
BIN := .venv/bin
# What is imported in a hundred processes is compiled once.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install demo test lint types unit docs format

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt scripts/install.sh
	@PYTHON=$(PYTHON) scripts/install.sh

demo: install
	@$(BIN)/finetui demo

# Types and layout are checked while the tests begin.
test: install
	@$(MAKE) --no-print-directory -j3 lint types unit

unit: install
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 4 --dist loadscope --no-loadscope-reorder -q

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
