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
KUBECTL_READY := $(VENV)/.kubectl

# What buf compares the protos with: what landed last. A working tree is compared with its own last commit.
LAST_MAIN ?= $(shell git rev-parse --verify -q origin/main >/dev/null && ! git diff --quiet origin/main HEAD && echo origin/main || (git rev-parse --verify -q HEAD~1 >/dev/null && git diff --quiet HEAD && echo HEAD~1 || echo HEAD))

.DEFAULT_GOAL := help
.PHONY: help setup models proto demo up down test check security-check k8s-check monitoring monitoring-check images audit fuzz format bench bench-diarization bench-jobs bench-languages bench-robustness bench-peers chaos load docs languages client constraints clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

test: $(TESTS_READY) $(KUBECTL_READY) proto models ## run all tests
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(TESTS_READY) proto ## lint, types, import rules, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy services client deploy bench docs
	$(BIN)/lint-imports
	$(BIN)/buf lint protos
	$(BIN)/buf breaking protos --against '.git#ref=$(LAST_MAIN),subdir=protos'

security-check: $(TESTS_READY) proto ## test TLS, tokens, roles and limits against real servers
	$(BIN)/python -m pytest tests/integration/common/test_tls.py tests/integration/common/test_requests.py \
	  tests/integration/common/test_robust_server.py tests/integration/gateway/api/test_tokens.py \
	  tests/integration/gateway/ingest/test_decoder.py tests/integration/gateway/ingest/test_sandbox.py \
	  tests/integration/gateway/ingest/test_hostile_names.py tests/integration/gateway/jobs/test_webhooks.py \
	  tests/integration/client/test_cli_tokens.py tests/integration/bench/test_fuzz.py \
	  tests/unit/gateway/jobs/test_webhook_rules.py tests/unit/common/test_settings.py

k8s-check: $(TESTS_READY) $(KUBECTL_READY) proto ## build all Kubernetes manifests and hold them to their rules, without a cluster
	$(BIN)/python deploy/k8s/check.py
	$(BIN)/python -m pytest tests/repo/test_k8s.py tests/repo/test_k8s_docs.py tests/integration/deploy/test_k8s_running.py

images: ## build the images of the services (needs Docker with buildx)
	REVISION=$$(git rev-parse HEAD) CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) docker buildx bake $(IMAGES)

fuzz: $(BENCH_READY) proto ## send damaged recordings, requests and connections to real services; writes docs/security.md
	$(BIN)/python -m bench.fuzz

audit: $(BENCH_READY) .venv-audit/.ready ## look for packages of unknown version or licence, and for known vulnerabilities
	$(BIN)/python -m bench.audit .venv-audit/bin/pip-audit

format: $(TESTS_READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_READY) models ## measure quality, speed and memory; writes docs/benchmarks.md
	$(BIN)/python -m bench.system all

bench-diarization: $(BENCH_READY) models ## measure the diarizer alone; writes docs/diarization.md
	$(BIN)/python -m bench.diarization mixtures
	$(BIN)/python -m bench.diarization length

bench-robustness: $(BENCH_READY) models ## measure what damage does to answers; writes docs/benchmarks.md
	$(BIN)/python -m bench.robustness

bench-languages: $(BENCH_READY) models ## measure recordings that change their language; writes docs/benchmarks.md
	$(BIN)/python -m bench.languages

bench-jobs: $(BENCH_READY) models ## measure jobs: taking over, sharing, submitting, listing; writes docs/jobs.md
	$(BIN)/python -m bench.jobs

chaos: $(BENCH_READY) models ## do jobs while every part is killed again and again; writes docs/jobs.md
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python -m bench.chaos

load: $(BENCH_READY) models ## load the stack, restart and replace its replicas meanwhile; writes docs/benchmarks.md
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python -m bench.load

bench-peers: $(BENCH_READY) models .venv-peer/.ready ## measure the diarizer beside another one, installed apart
	$(BIN)/python -m bench.diarization peer

monitoring: $(TESTS_READY) proto ## write the dashboards and the rules of the Prometheus operator from their sources
	$(BIN)/python deploy/k8s/monitoring/prometheus_rules.py
	cd deploy/k8s && $(CURDIR)/$(BIN)/python -m monitoring.dashboards

monitoring-check: $(TESTS_READY) models ## check rules, dashboards and metrics with a real Prometheus; draws docs/monitoring/
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python deploy/k8s/monitoring/prometheus_tools.py
	$(BIN)/python -m pytest tests/repo/test_rules.py tests/repo/test_dashboards.py tests/repo/test_monitoring.py tests/unit/common/test_metrics.py
	PYTHONPATH=deploy/k8s:deploy/local $(BIN)/python -m monitoring.live.check --pictures

docs: $(SERVICES_READY) proto ## write the README's table of settings
	@$(BIN)/python docs/settings_table.py

languages: $(TESTS_READY) ## write the names of the languages that Whisper knows
	@$(BIN)/python docs/languages_table.py

client: $(TESTS_READY) ## generate the blocking client from the one for asyncio
	@$(BIN)/python client/generate_blocking.py

# Those of images for GPUs are installed nowhere else: they stay as they are.
constraints: $(BENCH_READY) ## write the versions installed in .venv to constraints.txt
	@(echo "# Exact versions of everything, direct or not: the only place where versions stand. See 'make constraints'."; \
	  ($(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; grep -E '^(cuda|nvidia|setuptools|triton)' constraints.txt) | \
	    LC_ALL=C sort --stable --unique --ignore-case --field-separator== --key=1,1) > constraints.new
	@mv constraints.new constraints.txt

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

# The one of this machine where there is one, else one is fetched.
$(KUBECTL_READY): deploy/k8s/kubectl.py | $(SERVICES_READY)
	$(BIN)/python deploy/k8s/kubectl.py
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

# Its own environment, and always the latest: it is no part of what is audited.
.venv-audit/.ready: | $(VENV)/bin/python
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit
	@touch $@

$(GENERATED)/.stamp: $(PROTOS) $(SERVICES_READY)
	@rm -rf $(GENERATED) && mkdir -p $(GENERATED)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos \
	  --python_out=services/common/src --grpc_python_out=services/common/src \
	  --mypy_out=quiet:services/common/src --mypy_grpc_out=quiet:services/common/src $(PROTOS)
	@touch $(GENERATED)/__init__.py
	@touch $@
