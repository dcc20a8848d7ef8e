# Each target does all its own set-up in .venv; it needs Python 3.10 or later and make, nothing else.
#   make demo                      everything in miniature, offline once installed, in six to eight minutes on two cores
#   make test                      the test suite
#   make check                     lint, format, types
#   make bench                     short tables of all benchmarks, under fifteen minutes on two cores (peers: extra bench)
#   make test PYTHON=python3.12    with another Python (make clean first where .venv has one already)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench clean

demo: $(VENV)/installed-synthetic
	$(BIN)/firstwords demo --out demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/short.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each extra, so that the demo does not wait for the tools of the tests.
$(VENV)/installed-%: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Firstwords needs Python 3.10 or later, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

.PRECIOUS: $(VENV)/installed-%
