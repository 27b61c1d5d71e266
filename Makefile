# `make sweep`, `make test` and `make docs` need only Python 3.11 or newer.

PYTHON ?= python3
SWEEP ?= augmentation
BIN = .venv/bin

.PHONY: sweep check quick test campaign faults test-gpu docs clean

sweep: .venv/installed
	$(BIN)/python launch.py --sweep $(SWEEP)

# Linter, types, structure, language and documentation, without the tests that train.
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet --durations 3 tests/test_structure.py tests/test_prose.py tests/docs/test_pages.py

# Unit tests.
quick: .venv/installed
	$(BIN)/python -m pytest --numprocesses 2 -m 'not slow and not network and not campaign'

# Everything but the tests marked network and campaign.
test: check
	$(BIN)/python -m pytest --numprocesses 2

# The tests marked campaign, which take minutes each.
campaign: .venv/installed
	$(BIN)/python -m pytest -m campaign -rs

# The tests and the check that need a GPU. Without one they are skipped, with the reason.
test-gpu: .venv/installed
	$(BIN)/python -m pytest -m gpu -rs

# All campaigns of tests/faults/ except the soak. They write docs/reliability.md.
faults: .venv/installed
	$(BIN)/python -m pytest -m campaign tests/faults

# The site in site/, and the generated reference.
docs: .venv/installed .venv-docs/installed
	$(BIN)/python docs/reference/generate.py
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ddl needs Python 3.11 or newer. Name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv-docs/installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet -r docs/requirements.txt
	touch $@

clean:
	rm -rf .venv .venv-docs site
