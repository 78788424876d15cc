# make demo   the whole platform on this machine: three hospitals train a classifier together
# make test   lint, types, import contracts and all tests
# make test-long  hospitals in network namespaces of their own, that leave and come back; a demo after a demo
# make bench  the figures of the README
# make bench-secagg  the figures of docs/secure-aggregation.md
# make bench-gateway  the figures of docs/dispatch.md
# make bench-privacy  the figures of docs/privacy.md
# make bench-data  the figures of docs/data.md
# make bench-quality  the figures of docs/recipes.md

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-long lint types contracts pytest bench bench-secagg bench-gateway bench-privacy bench-data bench-quality lock clean

demo: $(INSTALLED)
	@$(BIN)/fedmed demo

test: lint types contracts pytest

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

contracts: $(INSTALLED)
	$(BIN)/lint-imports

# Whole stacks run one at a time: they are held to the clock.
pytest: $(INSTALLED)
	$(BIN)/pytest --numprocesses 2 --dist loadfile tests/unit tests/integration privacy
	$(BIN)/pytest -m "not long" tests/e2e

# Hospitals in network namespaces of their own (root and iproute2), a demo after a demo.
test-long: $(INSTALLED)
	$(BIN)/pytest -m long tests/e2e

bench: $(INSTALLED)
	$(BIN)/python -m deployments.bench.rounds

bench-secagg: $(INSTALLED)
	$(BIN)/python -m deployments.bench.secagg
	$(BIN)/python -m deployments.bench.large

bench-gateway: $(INSTALLED)
	$(BIN)/python -m deployments.bench.gateway

bench-privacy: $(INSTALLED)
	$(BIN)/python -m deployments.bench.privacy

bench-data: $(INSTALLED)
	$(BIN)/python -m deployments.bench.data

# FEDMED_PNEUMONIAMNIST names MedMNIST's pneumoniamnist.npz; without it the images are left out.
bench-quality: $(INSTALLED)
	$(BIN)/python -m deployments.bench.quality

# Pins everything to what a fresh environment resolves today.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet '.[dev]'
	.venv-lock/bin/pip uninstall --quiet --yes fedmed
	.venv-lock/bin/pip freeze | sed 's/+cpu$$//' > requirements.txt
	rm -rf .venv-lock

$(INSTALLED): requirements.txt pyproject.toml
	@test -x $(BIN)/pip || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } || { \
	  echo "make: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu:" \
	       "apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "make: fedmed needs Python 3.11, $(PYTHON) is another; name one with PYTHON=" >&2; \
	  rm -rf $(VENV); exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .fedmed
