# Two commands do everything on a fresh machine (git, make, Python 3.11, Debian): make demo, make test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help demo test check lint types layers unit docs bench wheel clean

help:
	@echo "make demo    run the main job end to end on this machine"
	@echo "make test    all checks: ruff, mypy, import-linter, tests (PostgreSQL and sshd are installed if missing, as root)"
	@echo "make bench   benchmarks, as ratios against floors and peers"
	@echo "make docs    make the generated pages again"
	@echo "make wheel   build the wheel into dist/"

$(STAMP): pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; PYTHON=/path/to/python3.11 make ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)
	$(BIN)/reconciler demo

test: $(STAMP)
	@sh tests/setup-debian.sh
	$(BIN)/python tests/check.py

check: test

bench: $(STAMP)
	$(BIN)/python -m benchmarks

docs: $(STAMP)
	$(BIN)/python docs/generate.py

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
