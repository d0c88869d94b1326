PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLI := $(BIN)/adaptive-diffusion
# each of the tests' processes computes on one core
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: demo comparison test test-all test-pipelines test-wheel lint docs bench pipelines clean

demo: $(VENV)/.cli  ## four prompts in full, accelerated, and in fewer steps, on a small model, offline
	$(CLI) compare --model scenes \
		"a red ball" "a cat and a star" "an orange boat at sea" "a blue house on grass" --out out/demo

comparison: $(VENV)/.cli  ## sixteen prompts, the paper's rule too, three timed rounds; ten minutes
	$(CLI) compare --prompts examples/prompts.txt --baselines --repeats 3 --out out/comparison

test: $(VENV)/.dev  ## one representative of every kind
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.dev  ## every test; ARGS are further ones for pytest
	$(PYTEST) -m "" $(ARGS)

test-pipelines: $(VENV)/.dev  ## every pipeline class that can be built here, and all trained models
	$(PYTEST) -m slow tests/conformance tests/miniatures/test_plans_of_miniatures.py $(ARGS)

test-wheel: $(VENV)/.dev  ## all commands and code of the README and of Start, from a wheel in a clean environment
	$(PYTEST) -m "" tests/test_readme.py tests/miniatures/test_wheel.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs  ## the site, into out/site; runs the notebook, and stops at a link that leads nowhere
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.dev  ## every way to make the miniatures' pictures, side by side; under half an hour
	$(INSTALL) ".[dev,bench]"
	$(CLI) bench miniature --steps 50 --guidance 3 --schedulers ddim,flow-euler \
		--samples 8 --timed-samples 1 --out out/bench

pipelines: $(VENV)/.dev  ## examines every pipeline class that can be built here, and writes docs/pipelines.md
	$(BIN)/python tests/conformance/table.py

# an environment with the extra of that name
$(VENV)/.%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing adaptive-diffusion[$*] into $(VENV). Torch and diffusers take a few minutes."
	$(INSTALL) ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) out build dist
