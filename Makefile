# Every way to run this project. `make help` lists them.

PYTHON ?= python3
CACHE  := .cache
TEST   := $(CACHE)/venv/test
DEMO   := $(CACHE)/venv/demo
CLIENTS := $(CACHE)/clients
ALL_CLIENTS := boto3 aiobotocore awscli awscli_v2 js_v2 js_v3 go java java_v1 rust ruby pyarrow awscrt obstore
LOCK   := $(TEST)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
# What takes long to run, and should not end in a mistake that reading shows.
LOOSE  := --config-file= --check-untyped-defs --ignore-missing-imports --no-strict-optional
PIP    := -m pip install --quiet --disable-pip-version-check

.PHONY: help install demo test fuzz watch-test deploy-test cluster dashboards lint format clients conformance bench lock clean

help: ## List what there is to run
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: .venv/.ready$(EXTRAS) ## Put the daemon into .venv (.venv/bin/imds-proxy) and no more; EXTRAS=1: all extras but the demo too

demo: $(DEMO)/.ready $(CLIENTS)/boto3/.ready $(CLIENTS)/awscli/.ready ## Show rotation live on an AWS double; ONCE=1: two rotations, then exit 0 or 1
	@$(DEMO)/bin/imds-proxy demo --clients $(CLIENTS) $(if $(ONCE),--once)

test: $(TEST)/.ready $(CLIENTS)/boto3/.ready $(CLIENTS)/aiobotocore/.ready $(CLIENTS)/awscli/.ready ## Run every test; ARGS=FILE: what is in it
	$(TEST)/bin/python -m pytest $(or $(ARGS),--numprocesses=3 --dist=loadfile)

watch-test: $(TEST)/.ready ## Dashboard and alerts on a real Prometheus, page and terminal view; needs prometheus, prometheus-alertmanager and chromium
	$(TEST)/bin/python -m pytest $(or $(ARGS),tests/watch)

deploy-test: $(TEST)/.ready $(CLIENTS)/boto3/.ready $(CLUSTER) ## Follow the READMEs of deploy/: build and run the image, render the chart, talk to a real API server; as root
	$(TEST)/bin/python -m pytest $(or $(ARGS),tests/deploy)

fuzz: $(TEST)/.ready ## Feed odd input to every parser for MINUTES=n minutes; a minute of it is in make test
	$(TEST)/bin/python tests/fuzz/run_for.py $(or $(MINUTES),10) $(ARGS)

dashboards: $(TEST)/.ready ## Render grafana/ from its one description
	$(TEST)/bin/python grafana/render.py

lint: $(TEST)/.ready ## Run linters, formatter check, types and the direction of imports
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/mypy
	$(TEST)/bin/mypy $(LOOSE) tests/conformance
	$(TEST)/bin/mypy $(LOOSE) tests/bench
	$(TEST)/bin/lint-imports

format: $(TEST)/.ready ## Format, and mend what the linter can mend
	$(TEST)/bin/ruff check --fix .
	$(TEST)/bin/ruff format .

clients: $(ALL_CLIENTS:%=$(CLIENTS)/%/.ready) ## Build every client that conformance takes

conformance: $(TEST)/.ready ## Every SDK through every situation; REQUIRE=1: all must be there; README=1: its table
	@$(MAKE) --keep-going clients || echo "what could not be built is reported as absent"
	$(TEST)/bin/python tests/conformance/run.py $(if $(REQUIRE),--require-all) \
		--markdown $(if $(README),README.md,$(CACHE)/conformance.md) $(ARGS)

bench: $(TEST)/.ready ## Measure beside nginx and aiohttp; ARGS=--quick for a short run, ARGS=--attacks under attack, ARGS='--roles 1000' with many roles
	$(TEST)/bin/python tests/bench/run.py $(ARGS)

lock: $(TEST)/.ready ## Compile the lock files again, to the newest versions
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --extra roles-anywhere --extra pkcs11 --extra kubernetes --extra encrypted-state --extra login -o requirements-extras.txt
	$(LOCK) pyproject.toml --extra demo -o requirements-demo.txt
	$(LOCK) pyproject.toml --extra demo --extra roles-anywhere --extra pkcs11 --extra kubernetes --extra encrypted-state --extra login --group test --group watch --group deploy --group lint -o requirements-test.txt
	printf '%s\n' cyclonedx-bom hatchling | $(LOCK) - -o deploy/container/requirements-build.txt
	for client in boto3 aiobotocore awscli pyarrow awscrt obstore; do echo $$client | $(LOCK) - -o tests/clients/$$client.txt; done

clean: ## Remove everything that was set up or built
	rm -rf $(CACHE) .venv dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# Each environment is made of a lock file with hashes, and made again when that changes.

.venv/.ready$(EXTRAS): requirements$(if $(EXTRAS),-extras).txt pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) --require-hashes -r $<
	$(@D)/bin/python $(PIP) --no-deps .
	@touch $@
	@echo "installed: .venv/bin/imds-proxy"

$(DEMO)/.ready: requirements-demo.txt pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) --require-hashes -r requirements-demo.txt
	$(@D)/bin/python $(PIP) --no-deps --editable .
	@touch $@

$(TEST)/.ready: requirements-test.txt pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) --require-hashes -r requirements-test.txt
	$(@D)/bin/python $(PIP) --no-deps --editable .
	@touch $@

include tests/clients/*.mk tests/deploy/*.mk
