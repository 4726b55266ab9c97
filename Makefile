# Everything lives in .venv at the top of the repository; nothing outside it is changed.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.apical-installed
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
WORKERS ?= 2
export PRETRAINED

.PHONY: help setup check-tools demo test lint check-all bench docs constraints clean

help:
	@echo "make demo       train two small networks, prove their hardware, price their joules (PRETRAINED=1: skip training)"
	@echo "make test       style, types and the test suite without the heavy tests"
	@echo "make check-all  everything, with the heavy tests (many minutes)"
	@echo "make bench      the benchmarks, each as one JSON object"
	@echo "make docs       write the generated reference pages"
	@echo "make setup      the virtual environment alone;  make clean: remove what was built"

check-tools:
	@missing=0; \
	need() { missing=1; echo "setup: $$1 is missing: $$2" >&2; }; \
	[ -n "$(PYTHON)" ] || need "Python 3.11 or newer" "install python3.11 (Debian: apt-get install python3 python3-venv), or say PYTHON=/path/to/python"; \
	[ -z "$(PYTHON)" ] || $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || need "Python's venv module" "Debian: apt-get install python3-venv"; \
	command -v g++ >/dev/null || need "g++" "the simulator compiles C++ with it (Debian: apt-get install g++; Fedora: dnf install gcc-c++)"; \
	command -v make >/dev/null || need "make" "the simulator builds with it (Debian: apt-get install make)"; \
	command -v perl >/dev/null || need "perl" "the simulator's front end is a Perl script (Debian: apt-get install perl)"; \
	exit $$missing

$(STAMP): pyproject.toml constraints.txt | check-tools
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@touch $@

setup: check-tools $(STAMP)

demo: setup
	$(BIN)/apical demo $(if $(PRETRAINED),--pretrained)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup lint
	$(BIN)/pytest -n $(WORKERS) -m "not heavy"

check-all: setup lint
	$(BIN)/pytest -n $(WORKERS)

BENCHMARKS ?= datapath engines golden cold-start mnist ecp5 training
bench: setup
	@for name in $(BENCHMARKS); do $(BIN)/apical bench $$name --json || exit 1; done

docs: setup
	$(BIN)/python -m apical.sw.cli_reference docs/reference

constraints: setup
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build dist *.egg-info demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find hw sw sim boards tests -name __pycache__ -type d -prune -exec rm -rf {} +
