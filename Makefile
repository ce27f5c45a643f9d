# `make demo` and `make test` set up .venv by themselves; nothing else has to be run first.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow test-asan bench coverage report report-quick docs lint types clean

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,app,perceptual,synth,metrics,train,scribbles]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/fewshot-smis demo

test: $(STAMP)
	$(BIN)/python -m pytest -q

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q --slow -m slow

test-asan: $(STAMP)
	$(BIN)/python -m pytest -q --slow tests/stylegan/test_native_random.py -k leaves_its_memory

bench: $(STAMP)
	$(BIN)/python -m benchmarks

coverage: $(STAMP)
	$(BIN)/python -m pytest -q --cov --cov-report=term-missing:skip-covered

report: $(STAMP)
	$(BIN)/fewshot-smis report --workers 2

report-quick: $(STAMP)
	$(BIN)/fewshot-smis report --quick --workers 2 --folder runs/report-quick --docs runs/report-quick/pages

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	$(BIN)/python -m tests.help_pages
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build
	@echo docs/_build/index.html

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage
