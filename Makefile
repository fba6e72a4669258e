# `make demo` and `make test` do all the set-up themselves; Python 3.11 and make are all they need.
PYTHON ?= python3.11
VENV := .venv
TRITON_ENV ?= $(CURDIR)/.venv-triton
BIN := $(VENV)/bin

export EXFM_TRITON_ENV := $(TRITON_ENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test bench-overload bench-export bench-peers bench-batching bench-async bench-scale lint format stubs install clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: install ## data in, ranked ads out: train, export, serve with Triton, replay; EXFM_DATA_DIR names the data
	$(BIN)/python -m demo

# Two at once what no clock judges; one after the other what a busy neighbour could make fail. Of that a test has three
# tries, each named in the summary: machines stand still for tenths of a second now and then, what is broken fails all.
UNTIMED := tests/bench/simulation tests/house tests/exfm tests/exporter tests/e2e/test_own_model.py \
	tests/bench/asynchrony/test_kill.py tests/bench/export/test_killing.py tests/bench/peers/test_models.py \
	tests/serving/admission tests/loadtest/arrivals tests/loadtest/checking tests/loadtest/report tests/loadtest/verdict

test: ## lint, then every test
	$(MAKE) --no-print-directory --jobs=2 lint install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(UNTIMED)
	$(BIN)/python -m pytest -rR --reruns 2 --reruns-delay 2 $(UNTIMED:%=--ignore=%)

bench-overload: install ## 2, 5 and 10 times the rated load, and a Triton that hangs or dies; takes ten minutes
	$(BIN)/python -m bench.overload

bench-export: install ## the engines, the student against a naive one, parity, publishing under kill -9 and under load
	$(BIN)/python -m bench.export

bench-peers: install ## this server and seven other ways to serve a model of equal quality, in turns; 45 minutes
	$(BIN)/python -m bench.peers

bench-batching: install ## Triton's batcher against an earliest-deadline-first one in the frontend
	$(BIN)/python -m bench.batching

bench-async: install ## the asynchronous plane: kill -9 under load, annotation's speed, and what serving feels of it
	$(BIN)/python -m bench.asynchrony

bench-scale: install ## the engines for more than one machine beside the embedded ones, and a table of 10^12 parameters
	$(BIN)/python -m bench.scale

lint: $(VENV)/.installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

stubs: $(VENV)/.installed ## generate serving/rpc/pb from proto/
	$(BIN)/python -m grpc_tools.protoc -Iserving/rpc/pb=proto/exfm/ranking/v1 \
		--python_out=. --pyi_out=. --grpc_python_out=. proto/exfm/ranking/v1/ranking.proto

install: $(VENV)/.installed ## the two environments: ours, and the Triton server's
	$(BIN)/python -m serving.embedded.environment --path $(TRITON_ENV)

# torchrec names a build of fbgemm that a machine without a GPU can't use, hence without its own requirements.
# An old pip needs most of an hour to resolve what the constraints leave open, hence the upgrade first.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet 'pip>=25'
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps torchrec==1.9.2 fbgemm-gpu-cpu==1.8.0
	touch $@

clean: ## remove what was made, environments included
	rm -rf build $(VENV) $(TRITON_ENV)
