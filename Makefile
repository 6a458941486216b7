# Persistor. `make` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip
CODE   := $(wildcard pipelines transforms resubmit_api bench tests setup.py docs/_site)
ARGS   ?=
# Where it is set, each command would compile all of Beam again: four seconds of a processor instead of one.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: install
install: $(VENV)/installed ## the environment .venv with the command persistor

.PHONY: install-dev
install-dev: $(VENV)/installed-dev ## the same, and what the tests and checks need

.PHONY: demo
demo: $(VENV)/installed ## see it work: broker, archive, index, API and a resubmission (ARGS=--once ends by itself)
	@$(BIN)/python -m pipelines.demo $(ARGS)

.PHONY: test
test: servers ## every test but those of deploying, against real servers (ARGS='tests/unit -k layout' for some)
	$(PYTEST) --ignore=tests/deploy $(ARGS)

.PHONY: test-deploy
test-deploy: $(VENV)/installed-dev ## the tests of image, Helm chart, Terraform and Compose (as root; apt-get install buildah debootstrap)
	@$(BIN)/python -m tests.servers deploy
	$(PYTEST) tests/deploy $(ARGS)

.PHONY: test-flink
test-flink: servers ## the tests on a real Flink cluster alone, with 500,000 messages instead of 100,000
	FLINK_MESSAGES=500000 $(BIN)/python -m pytest $(or $(ARGS),tests/flink)

SANITIZED := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g
# Servers that the tests start are not checked.
ALONE := import os, sys, pytest; del os.environ['LD_PRELOAD']; sys.exit(pytest.main(sys.argv[1:]))
.PHONY: test-native
test-native: servers ## the tests of the extensions in C with its memory accesses checked (gcc)
	CFLAGS="$(SANITIZED)" $(BIN)/python setup.py --quiet build_ext --inplace --force
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  $(BIN)/python -c "$(ALONE)" -n 0 $(or $(ARGS),tests/unit/test_crcs.py tests/contract/brokers/test_native.py -k "not InPython and not Without"); \
	  code=$$?; $(BIN)/python setup.py --quiet build_ext --inplace --force; exit $$code

.PHONY: servers
servers: $(VENV)/installed-dev ## fetch and build the real servers that make test needs (minutes, the first time)
	@$(BIN)/python -m tests.servers

.PHONY: docs
docs: $(VENV)/installed-dev ## the documents as a site in build/site; a dead link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: lint
lint: $(VENV)/installed-dev docs ## style, types, the direction of imports, the documents
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/installed-dev ## put the code into the agreed form
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

NEEDS_COMPOSE = docker compose version >/dev/null 2>&1 \
  || { echo "This needs Docker with its plugin Compose 2: 'docker compose version' has to answer."; exit 1; }

.PHONY: up
up: ## a whole system in containers: Kafka, MongoDB, MinIO, Persistor, Prometheus, Grafana
	@$(NEEDS_COMPOSE)
	@sh templates/secrets.sh
	docker compose --file templates/compose.yaml up --build --detach

.PHONY: down
down: ## stop it, and keep its data
	@$(NEEDS_COMPOSE)
	docker compose --file templates/compose.yaml down

.PHONY: bench
bench: $(VENV)/installed-dev ## measure, on real servers (ARGS are the benchmark's own)
	$(BIN)/python -m bench $(ARGS)

.PHONY: screenshots
screenshots: servers ## pictures of the pages for the documentation, anew
	$(BIN)/python -m tests.e2e.screenshots docs/screenshots

.PHONY: reference
reference: $(VENV)/installed ## write the tables of settings and metrics, and the settings that the Helm chart knows, anew
	$(BIN)/python -m pipelines.reference .
	$(BIN)/python -m tests.deploy.chart schema
	$(BIN)/python -m pipelines.reference.flex_specs templates/dataflow persistor-worker

.PHONY: templates
templates: $(VENV)/installed ## the specifications of Dataflow's Flex templates for an image (IMAGE=REGISTRY/persistor-worker:0.1.0 TO=DIRECTORY)
	@test -n "$(IMAGE)" -a -d "$(TO)" || { echo "make templates IMAGE=REGISTRY/persistor-worker:0.1.0 TO=DIRECTORY"; exit 1; }
	$(BIN)/python -m pipelines.reference.flex_specs $(TO) $(IMAGE)

.PHONY: golden
golden: $(VENV)/installed-dev ## write what the tests expect of the Helm chart anew
	$(BIN)/python -m tests.deploy.chart golden

.PHONY: requirements
requirements: $(VENV)/uv ## pin the dependencies of setup.py anew
	$(UV) compile --universal --python-version 3.10 --extra all setup.py \
	  --no-annotate --no-header --quiet --output-file requirements.txt
	$(UV) compile --universal --python-version 3.10 --extra all --extra dev setup.py \
	  --constraints requirements.txt --no-annotate --no-header --quiet --output-file $(VENV)/all.txt
	(echo "-r requirements.txt"; grep -vxFf requirements.txt $(VENV)/all.txt) > requirements-dev.txt

.PHONY: clean
clean: ## remove the environment, caches and the demo's files
	rm -rf $(VENV) .demo .servers .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/uv:
	@command -v $(PYTHON) >/dev/null || { echo "Persistor needs Python 3.10 or newer as '$(PYTHON)'."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Persistor needs Python 3.10 or newer; this is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/installed: $(VENV)/uv requirements.txt setup.py $(wildcard transforms/_*.c transforms/brokers/kafka/_*.[ch])
	@echo "Installing Persistor into $(VENV) ..."
	@$(UV) install --quiet --requirement requirements.txt --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@$(UV) install --quiet --requirement requirements-dev.txt
	@touch $@
