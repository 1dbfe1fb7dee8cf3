# The verbs of the repository; CI runs these same ones. Needs python3 (3.11 or newer), python3-venv and make.
# `lock` alone needs one more tool (uv), and only whoever changes a dependency needs `lock`.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo demo-shell test check bench score fuzz proto proto-check lock peers clients ready clean

PYTHON ?= python3
UV ?= uv
FUZZ_SECONDS ?= 120
TEST_WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
GEN := .venv-gen
CLIENTS := .venv-clients
# Written last into a virtual environment: a half-made one has none and is made again from nothing.
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed
GEN_LOCKED := $(GEN)/.locked
CLIENTS_LOCKED := $(CLIENTS)/.locked

PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
PROTOS := $(sort $(wildcard protos/grantd/v1/*.proto))
PYTHON_SOURCES := broker policy recorder agents/grantd tests bench deploy
# what mypy is asked about: the folders of PYTHON_SOURCES that hold Python by now
TYPED := $(foreach folder,$(PYTHON_SOURCES),$(if $(shell find $(folder) -name '*.py' -print -quit 2>/dev/null),$(folder)))

help: ## list the verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## the main job end to end on this machine; on a terminal you are the approver
	@$(BIN)/python -m deploy.demo

demo-shell: $(INSTALLED) ## the gated shell in tmux: a scripted person at the prompt, one who approves; every screen is printed
	@$(BIN)/python -m deploy.demo.shell

# One pytest run; the floors are then read from its own coverage data, so a number cannot be from another run.
# Tests start a thousand programs of ours: each would compile its sources anew where bytecode may not be kept.
test: $(INSTALLED) $(CLIENTS_LOCKED) peers ## every test, and the coverage floors of the pure packages
	@mkdir -p build
	@$(BIN)/python -m compileall -q $(PYTHON_SOURCES)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n $(TEST_WORKERS) --dist loadgroup --cov --cov-report= --durations=5
	@$(BIN)/python -m tests.floors

check: $(INSTALLED) ## lint, format, types, import contracts, proto lint and compatibility
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
	$(BIN)/buf lint
	@if [ -e protos/baseline.binpb ]; then \
	  echo "$(BIN)/buf breaking --against protos/baseline.binpb"; $(BIN)/buf breaking --against protos/baseline.binpb; \
	else echo "buf breaking: nothing to compare with before the first release"; fi

bench: $(INSTALLED) peers ## the goals, measured on this machine: a table and build/bench.json
	@mkdir -p build
	@$(BIN)/python -m bench

# SET: any JSON-lines file with the keys of tests/policy/labelled; REPORT=1 writes docs/classifier.md.
score: $(INSTALLED) ## how well commands are classified: the own labelled set, or SET=file
	@$(BIN)/python -m tests.policy.scoring $(SET) $(if $(REPORT),--report)

fuzz: $(INSTALLED) ## every property with many more examples, then the classifier against bash; FUZZ_SECONDS (120) each
	@end=$$(( $$(date +%s) + $(FUZZ_SECONDS) )); rounds=0; \
	while [ $$(date +%s) -lt $$end ]; do \
	  $(BIN)/pytest -q -x -n $(TEST_WORKERS) -m hypothesis --hypothesis-profile=fuzz || exit 1; rounds=$$((rounds + 1)); \
	done; echo "fuzz: $$rounds rounds without a counterexample"
	@$(BIN)/python -m tests.policy.fuzz --seconds $(FUZZ_SECONDS) --workers $(TEST_WORKERS)

proto: $(GEN_LOCKED) ## make the SDK's stubs anew from protos/
	@test -n "$(PROTOS)" || { echo "make proto: protos/grantd/v1 holds no .proto file" >&2; exit 1; }
	PATH="$(CURDIR)/$(GEN)/bin:$$PATH" $(GEN)/bin/python -m grpc_tools.protoc -I protos \
	  --python_out=agents --grpc_python_out=agents --mypy_out=agents --mypy_grpc_out=agents $(PROTOS)

proto-check: $(GEN_LOCKED) ## the checked-in stubs are byte for byte what the compiler makes
	@test -n "$(PROTOS)" || { echo "make proto-check: protos/grantd/v1 holds no .proto file" >&2; exit 1; }
	@rm -rf build/stubs && mkdir -p build/stubs
	@PATH="$(CURDIR)/$(GEN)/bin:$$PATH" $(GEN)/bin/python -m grpc_tools.protoc -I protos \
	  --python_out=build/stubs --grpc_python_out=build/stubs --mypy_out=build/stubs --mypy_grpc_out=build/stubs $(PROTOS)
	diff -r -x __init__.py -x __pycache__ -x '*.pyc' build/stubs/grantd/v1 agents/grantd/v1

# No address may enter a lock: the index is each site's own choice. Releases younger than a week are left to others.
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --exclude-newer P7D
lock: ## resolve the dependencies anew (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv (pipx install uv), or UV=/path/to/uv" >&2; exit 1; }
	$(LOCK) pyproject.toml --group dev --all-extras -o requirements/lock.txt
	$(LOCK) requirements/gen.in -o requirements/gen.txt
	$(LOCK) requirements/clients.in -o requirements/clients.txt

peers: ## the real programs the tests talk to: from this machine, else unpacked into .cache/debs
	@sh tests/peers.sh

clients: $(CLIENTS_LOCKED) ## Ansible and Paramiko, with which the SSH door is tried, in .venv-clients

ready: $(INSTALLED) ## only set up .venv

clean: ## remove what make made, downloads too
	rm -rf $(VENV) $(GEN) $(CLIENTS) .cache build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

define make_venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "grantd needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv is missing: apt-get install python3-venv" >&2; exit 1; }
@echo "setting up $(1) from $(2)"
@$(PYTHON) -m venv --clear $(1)
@$(1)/bin/python $(PIP_INSTALL) --require-hashes --only-binary :all: -r $(2)
@touch $(1)/.locked
endef

$(LOCKED): requirements/lock.txt
	$(call make_venv,$(VENV),requirements/lock.txt)

$(INSTALLED): $(LOCKED) pyproject.toml
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(GEN_LOCKED): requirements/gen.txt
	$(call make_venv,$(GEN),requirements/gen.txt)

$(CLIENTS_LOCKED): requirements/clients.txt
	$(call make_venv,$(CLIENTS),requirements/clients.txt)
