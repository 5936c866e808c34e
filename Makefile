# Two commands do everything on a fresh machine:
#   make study   creates the environment and runs the main job (STUDY=digits|breast_cancer|avila)
#   make test    creates the environment and runs the tests

PYTHON ?= python3
STUDY ?= digits
BIN := .venv/bin

.PHONY: study study-full test test-slow check benchmark clean

study: .venv/.study
	$(BIN)/escapade study $(STUDY) --quick

study-full: .venv/.study
	$(BIN)/escapade study $(STUDY)

test: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

check: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: .venv/.bench
	$(BIN)/python benchmarks/throughput.py

clean:
	rm -rf .venv results

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.study: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/.test: .venv/.study
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

.venv/.bench: .venv/.study
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@
