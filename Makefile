# Careca's commands. `make help` lists them; each does its own set-up in .venv, with nothing needed but Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/careca/v1/*.proto)
GENERATED := services/common/src/careca/v1
PARTS := services/common services/transcriber services/diarizer services/gateway client
PROJECTS := $(PARTS:%=%/pyproject.toml)
SERVICES_READY := $(VENV)/.services
TESTS_READY := $(VENV)/.tests
BENCH_READY := $(VENV)/.bench

# What buf compares the protos with: what landed last. A working tree is compared with its own last commit.
LAST_MAIN ?= $(shell git rev-parse --verify -q origin/main >/dev/null && ! git diff --quiet origin/main HEAD && echo origin/main || (git rev-parse --verify -q HEAD~1 >/dev/null && git diff --quiet HEAD && echo HEAD~1 || echo HEAD))

.DEFAULT_GOAL := help
.PHONY: help setup models proto demo up down test check format bench bench-diarization bench-jobs bench-peers chaos load docs constraints clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SERVICES_READY) proto ## make .venv with the services, the client and the generated stubs

models: setup ## fetch the default models' weights and verify their digests
	@$(BIN)/careca models pull

proto: $(GENERATED)/.stamp ## generate the Python stubs from protos/

demo: models ## transcribe a phone call with the real stack, twice, and stop it again
	@$(BIN)/python deploy/local/demo.py

up: models ## run the whole stack in the foreground
	@$(BIN)/python deploy/local/up.py

down: $(SERVICES_READY) ## stop a stack that `make up` started
	@$(BIN)/python deploy/local/down.py

test: $(TESTS_READY) proto models ## run all tests
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python -m pytest

check: $(TESTS_READY) proto ## lint, types, import rules, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy services client deploy/local bench docs
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against '.git#ref=$(LAST_MAIN),subdir=protos'

format: $(TESTS_READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_READY) models ## measure quality, speed and memory; writes docs/benchmarks.md
	$(BIN)/python bench/run.py all

bench-diarization: $(BENCH_READY) models ## measure the diarizer alone; writes docs/diarization.md
	$(BIN)/python bench/diarize.py mixtures
	$(BIN)/python bench/diarize.py length

bench-jobs: $(BENCH_READY) models ## measure jobs: taking over, sharing, submitting, listing; writes docs/jobs.md
	$(BIN)/python bench/jobs.py

chaos: $(BENCH_READY) models ## do jobs while every part is killed again and again; writes docs/jobs.md
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python bench/chaos.py

load: $(BENCH_READY) models ## load the stack, restart and replace its replicas meanwhile; writes docs/benchmarks.md
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python bench/load.py

bench-peers: $(BENCH_READY) models .venv-peer/.ready ## measure the diarizer beside another one, installed apart
	$(BIN)/python bench/diarize.py peer

docs: $(SERVICES_READY) proto ## write the README's table of settings
	@$(BIN)/python docs/settings_table.py

constraints: $(BENCH_READY) ## write the versions installed in .venv to constraints.txt
	@(echo "# Exact versions of everything, direct or not: the only place where versions stand. See 'make constraints'."; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//') > constraints.txt

clean: ## remove .venv, generated stubs and run-time data (not the weights)
	rm -rf $(VENV) $(GENERATED) .careca

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Careca needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# pip reads its own settings as ever, PIP_INDEX_URL and PIP_EXTRA_INDEX_URL among them.
$(SERVICES_READY): constraints.txt deploy/local/requirements.txt $(PROJECTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement deploy/local/requirements.txt $(PARTS:%=--editable %)
	@touch $@

# The benchmark's scoring is tested too where it can be installed: meeteval has to be compiled.
$(TESTS_READY): tests/requirements.txt bench/requirements.txt $(SERVICES_READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement tests/requirements.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement bench/requirements.txt || \
	  echo "The benchmark's packages cannot be installed here, most likely for want of a C compiler: their tests are skipped."
	@touch $@

$(BENCH_READY): bench/requirements.txt $(TESTS_READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement bench/requirements.txt
	@touch $@

# Its own environment: it needs other versions than ours.
.venv-peer/.ready: bench/peer-requirements.txt
	$(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --quiet torch==2.13.0
	.venv-peer/bin/python -m pip install --quiet --requirement bench/peer-requirements.txt
	@touch $@

$(GENERATED)/.stamp: $(PROTOS) $(SERVICES_READY)
	@rm -rf $(GENERATED) && mkdir -p $(GENERATED)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos \
	  --python_out=services/common/src --grpc_python_out=services/common/src \
	  --mypy_out=quiet:services/common/src --mypy_grpc_out=quiet:services/common/src $(PROTOS)
	@touch $(GENERATED)/__init__.py
	@touch $@
