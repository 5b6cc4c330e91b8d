# Everything here needs Python 3.10 or newer and make; the rest is installed into .venv.
#   make demo    score and rank real models, after installing what that needs
#   make test    everything that must hold before a change lands; prints the coverage of each room
#   make check   the same without the slow tests
# AZNAS_SHARED=FOLDER names reference data that some tests compare with; without it they are skipped.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# One process per core, and one thread in each: more only fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

.PHONY: demo test check env lint types format bench clean

demo: env
	$(BIN)/python examples/demo.py

test: lint types
	$(PYTEST) --cov --cov-report=json:build/coverage.json
	$(BIN)/python tests/coverage_table.py build/coverage.json

check: lint types
	$(PYTEST) -m "not slow"

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# mypy follows neither setuptools' package-dir nor its import hook for editable installs, so it gets a tree of links
# in which cli/ and spaces/ lie inside aznas_onnx/, as they do once installed.
types: env
	rm -rf build/types && mkdir -p build/types/aznas_onnx
	cd build/types/aznas_onnx && ln -s ../../../aznas_onnx/* ../../../cli ../../../spaces .
	cd build/types && ln -s ../../tests ../../benchmarks .
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache

format: env
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

bench: env
	$(BIN)/python benchmarks/startup.py

env: $(INSTALLED)

# The stamp makes the second time quick; it is renewed when the dependencies may have changed.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "aznas-onnx needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[demo,test]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
