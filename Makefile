PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all lint bench pipelines clean

demo: $(READY)  ## full and accelerated runs of a few prompts on the miniature, offline
	$(BIN)/adaptive-diffusion compare --prompts examples/prompts.txt --repeats 3 --out out/demo

test: $(READY)
	$(BIN)/python -m pytest

test-all: $(READY)
	$(BIN)/python -m pytest -m ""

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## every way to make the miniatures' pictures, side by side; under half an hour
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,bench]"
	$(BIN)/adaptive-diffusion bench miniature --steps 50 --guidance 3 --schedulers ddim,flow-euler \
		--samples 8 --timed-samples 1 --out out/bench

pipelines: $(READY)  ## examines every pipeline class that can be built here, and writes docs/pipelines.md
	$(BIN)/python tests/conformance/table.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) out build dist
