# One command, one meaning; CI calls these and nothing else. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SYNE := $(VENV)-syne-tune
SPACE ?= search_spaces/mlp.yaml
PROMISED := 3.11 3.12 3.13

.DEFAULT_GOAL := help
.PHONY: help setup search test unit versions browser cluster gpu pictures faults soak bench-driver bench-search bench-search-syne mutants check format schema lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-17s %s\n", $$1, $$2}'

setup: $(READY) ## install everything into .venv, exactly as locked

search: $(READY) ## search the MLP's widths and learning rate (MNIST if it can be had, else Digits)
	$(BIN)/python tuning/search.py --space $(SPACE) --gpus-per-trial 0.5

test: $(READY) ## run all tests except those that need a browser or several machines, and the slow ones
	$(BIN)/python -m pytest tests

unit: $(READY) ## run the tests that start no Ray
	$(BIN)/python -m pytest tests/unit --numprocesses auto --maxprocesses 4

versions: $(READY) ## run the unit tests on each promised Python that this machine has (about 6 GB each)
	tests/versions.sh $(PROMISED)

browser: $(READY) ## test report, dashboards and terminal in a real browser; installs Chromium if it can
	tests/browser/install.sh
	$(BIN)/python -m pytest tests/browser -m browser

cluster: $(READY) ## test searches over several machines and PostgreSQL; needs root; installs PostgreSQL if it can
	tests/cluster/install.sh
	$(BIN)/python -m pytest tests/cluster -m "cluster and not slow"

gpu: $(READY) ## test what only a GPU shows: about ten minutes
	$(BIN)/python -m pytest tests/gpu -m gpu

pictures: $(READY) ## take the pictures of the docs again (docs/images)
	tests/browser/install.sh
	$(BIN)/python -m tests.browser.pictures

faults: $(READY) ## inject every fault of docs/faults.md, the slow ones too
	$(BIN)/python -m pytest tests/faults tests/security tests/cluster -m "slow or not slow" --durations=20

soak: $(READY) ## run the slow tests only: kills at random, long fuzzing, all signals; not part of CI
	$(BIN)/python -m pytest tests -m slow --durations=20

bench: $(READY) ## compare our search with other tools on real MNIST: an hour on a quiet machine
	$(BIN)/python -m benchmarks.bench

bench-driver: $(READY) ## measure the driver's time for each result, over 1,000 trials (benchmarks/README.md)
	$(BIN)/python -m benchmarks.bench_driver

bench-search: $(READY) ## simulate search policies on many tasks: ours, Ray's, Optuna's (benchmarks/README.md)
	$(BIN)/python -c "import onnxruntime" 2> /dev/null || $(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --editable '.[bench]'
	$(BIN)/python -m benchmarks.search

bench-search-syne: $(SYNE)/.ready ## add Syne Tune's policies, at 8 slots: they need an environment of their own
	$(SYNE)/bin/python -m benchmarks.search --slots 8 --arms "Syne Tune ASHA promotion" "Syne Tune ASHA stopping"
	$(SYNE)/bin/python -m benchmarks.search --slots 8 --seeds 3 --arms "Syne Tune MOBSTER promotion"

$(SYNE)/.ready: $(READY) benchmarks/search/syne_tune.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SYNE)
	$(BIN)/uv pip install --quiet --python $(SYNE)/bin/python --requirement benchmarks/search/syne_tune.txt
	@touch $@

mutants: $(READY) ## see which of forty one-line mutants the tests notice: about an hour; not part of CI
	$(BIN)/python -m benchmarks.mutants

check: $(READY) ## lint, check types, and check that imports go down only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schema: $(READY) ## write search_spaces/schema.json for editors
	$(BIN)/python -m tuning.verification.editor_schema

lock: $(READY) ## compile requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --extra dev --extra dashboards --extra postgres pyproject.toml --output-file requirements.lock

clean: ## delete .venv and caches; runs and data stay
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info

# The programs of an environment have its path in them: one that was copied or moved is made anew.
OF_ANOTHER_PLACE := $(filter-out $(realpath $(VENV)),$(shell sed -n 's/^command = .* -m venv //p' $(VENV)/pyvenv.cfg 2>/dev/null))
ifneq ($(OF_ANOTHER_PLACE),)
.PHONY: $(READY)
endif

# The pinned uv comes from the lock, so that even the installer is checked by hash.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 …")'
	@echo "installing into $(VENV) (the first time: about 6 GB, some minutes)"
	$(if $(OF_ANOTHER_PLACE),rm -rf $(VENV))
	$(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
