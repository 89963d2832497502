# Everything runs in .venv, installed from this project's own lock. Two commands matter: make demo, make test.
PYTHON ?= python3
LOCK   ?= locks/cpu.txt
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WARM   := $(VENV)/.warmed
WORKERS ?= 3
# modules are compiled when they are first imported: most of what is installed never is
PIP     = --disable-pip-version-check --no-deps --no-compile
BEAT    = $(BIN)/python scripts/heartbeat.py

export HF_HUB_DISABLE_TELEMETRY = 1
export DO_NOT_TRACK = 1

.PHONY: demo test test-long deps-test lint check setup lock clean help

help:
	@echo "make demo   set up if needed, run configs/demo.yaml, print the report's path"
	@echo "make test   set up (with Ray and lm-eval) if needed, then ruff, mypy, the import contract and all tests"
	@echo "make deps-test   what only tests need (bubblewrap, Chromium, axe-core); make test calls it"
	@echo "make test-long   20,000 made-up inputs of each kind (minutes)"
	@echo "make setup  only .venv and the DeepSpeed warm-up;  make extras  adds Ray and lm-eval"
	@echo "make lint   the static checks alone;  make lock  rewrite locks/ from what is installed"

demo: setup
	$(BIN)/trims run configs/demo.yaml

test: deps-test $(VENV)/.with-ray $(VENV)/.with-eval
	@$(MAKE) --no-print-directory -j2 $(WARM) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

deps-test:
	@sh scripts/deps.sh test
	@$(PYTHON) scripts/axe.py $(VENV)/axe-core

test-long: $(WARM)
	TRIMS_FUZZ_EXAMPLES=20000 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --timeout 7200 tests/inputs/test_fuzz.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(WARM)

$(STAMP): $(LOCK) pyproject.toml
	@PYTHON=$(PYTHON) sh scripts/deps.sh
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@$(BEAT) "installing $(LOCK) into $(VENV)" $(VENV)/install.log -- \
	    $(BIN)/python -m pip install $(PIP) -r $(LOCK)
	@$(BEAT) "installing the project" $(VENV)/install-project.log -- \
	    $(BIN)/python -m pip install $(PIP) --no-build-isolation -e .
	@touch $@

$(WARM): $(STAMP)
	@$(BEAT) "compiling DeepSpeed's shared-memory operator (once)" $(VENV)/warm.log -- \
	    $(BIN)/python -m trims_core.training.warm
	@touch $@

.PHONY: extras
extras: $(VENV)/.with-ray $(VENV)/.with-eval

$(VENV)/.with-%: locks/cpu-%.txt $(STAMP)
	@$(BEAT) "installing $<" $(VENV)/install-$*.log -- \
	    $(BIN)/python -m pip install $(PIP) -r $<
	@touch $@

lock:
	$(BIN)/python scripts/lock.py

clean:
	rm -rf $(VENV) data/store data/work .prefect
