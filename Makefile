# Everything runs in .venv, which `make install` creates; nothing else is needed but Python 3.11.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test install check

demo: install
	$(BIN)/m4-balance demo

test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/installed

.venv/installed: setup.cfg pyproject.toml constraints/cpu.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints/cpu.txt --editable '.[dev]'
	touch $@
