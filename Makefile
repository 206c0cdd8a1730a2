# Every target sets itself up: the first run makes .venv, later ones find it fresh.
#   make test    linters, types, import order, all tests with coverage
#   make demo    the whole story on a real image
#   make bench   figures beside those of other tools
#   make soak    long random runs
#   make fuzz    longer ones, led by coverage: MINUTES=30 in all, TARGETS="sddl ea-list" only those

# The first Python that is new enough and can make a virtual environment with pip in it.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
		>/dev/null 2>&1 && { echo "$$python"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
CODE := $(wildcard src tests demo bench)
PYTEST_ARGS ?=
MINUTES ?= 30
TARGETS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv lint format test demo bench soak fuzz clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

# pip of Python 3.11 does not know dependency groups yet, so it is renewed first.
$(VENV)/.pip:
ifeq ($(PYTHON),)
	@echo "windowsfilter needs Python 3.11 or newer that can make virtual environments." >&2
	@echo "On Debian and Ubuntu: apt-get install python3 python3-venv" >&2
	@echo "Another interpreter: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2
	@exit 1
endif
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# What running needs; the demo wants no more than this.
$(VENV)/.runtime: pyproject.toml $(VENV)/.pip
	$(BIN)/python -m pip install --quiet --editable .
	# An editable install is not compiled, and where writing byte code is switched off every
	# command would compile itself anew: 0.15 s each.
	$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

venv: $(VENV)/.dev

lint: $(VENV)/.dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

test: lint
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest --durations=15 --durations-min=1 $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

demo: $(VENV)/.runtime
	$(BIN)/python -m demo

bench: $(VENV)/.dev
	$(BIN)/python -m bench

soak: $(VENV)/.dev
	WINDOWSFILTER_SOAK=1 $(BIN)/python -m pytest tests/property tests/fault tests/fuzz

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(TARGETS)

clean:
	rm -rf $(VENV) .cache .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
