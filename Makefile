# Everything runs in a virtual environment of the project's own, made when it is missing or stale.

PYTHON ?= python3
VENV := .venv
# Processes that tests are shared among; the tests of a file run in one.
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PARALLEL := --numprocesses $(JOBS) --dist loadfile
# heareval's predictions read checkpoints that they have just written as pickled objects.
export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD := 1

.PHONY: install demo test test-shared test-all check benchmark clean

install: $(READY)

# An installed torch decides which builds of everything else fit, so it goes first. torchaudio is an
# oracle of the tests only: its native part is linked to CUDA, and is not needed on a CPU.
$(READY): pyproject.toml setup.py constraints.txt hear_eval/install.py Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,eval,onnx,parquet,plot,ray,train]'
	$(BIN)/python -m hear_eval.install
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps torchaudio
	$(BIN)/python -c 'import torchaudio' 2>/dev/null || rm -f $(VENV)/lib/python*/site-packages/torchaudio/lib/_torchaudio*.so
	touch $(READY)

demo: $(READY)
	$(BIN)/hear demo

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)

# The tests of real weights and recordings alone, which are skipped where these are not found.
test-shared: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m 'needs_shared and not slow'

test-all: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m ''

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(READY)
	$(BIN)/python -m benchmarks.extraction

clean:
	rm -rf $(VENV)
