# Everything a newcomer needs: python3 (3.11 or later, with venv) and make. uv is used if it is there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Most tests wait for processes and sockets, so there may be more workers than cores.
WORKERS ?= 4

.PHONY: setup demo test judges lint up clean lock docs format

setup: $(STAMP)  ## prepare .venv from the lock

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Postlane needs Python 3.11 or later, this is " + sys.version.split()[0] + "; name another with make PYTHON=...") if sys.version_info < (3, 11) else None'
	@if command -v uv >/dev/null 2>&1; then \
	  test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV); \
	  echo "installing with uv ..."; \
	  uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	  echo "installing with pip, about a minute ..."; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@touch $(STAMP)

demo: setup  ## the whole product in one command: from an empty system to a tracked, delivered message
	@$(BIN)/postlane demo

up: setup  ## embedded NATS, every room and the sandbox, until Ctrl-C
	@$(BIN)/postlane up --sandbox

test: setup  ## every tier that needs no root and no foreign program
	@$(BIN)/python -m pytest -m "not judge and not stack" -n $(WORKERS) --dist loadfile --max-worker-restart 0

judges: setup  ## independent programs as clients, receivers and verifiers; installs them where it may
	@sh .ci/judges.sh $(BIN)/python

lint: setup  ## style, types, house rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: setup  ## write the generated pages again
	@$(BIN)/python -m services docs

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links
lock:  ## resolve again (needs uv); requirements.lock is what runs, requirements-dev.lock adds the tools
	$(COMPILE) --extra dev --output-file requirements-dev.lock pyproject.toml build-requirements.in
	$(COMPILE) --constraint requirements-dev.lock --output-file requirements.lock pyproject.toml build-requirements.in

clean:  ## remove what was made; the data of `postlane up` in ./var stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info build
