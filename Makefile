# make demo | test | check | bench | zoo | ablation | clean — each installs what it needs into .venv first.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test check bench peers zoo ablation clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/python -m pipelines.demo

test: install
	$(BIN)/python -m pytest -n 2

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install peers
	for name in ingest scale select semantic pack stream cache distill; do $(BIN)/python -m benchmarks.$$name || exit 1; done

# Train the embedded world's models that are not there yet: hours on two cores, nearly all of them the teacher's.
zoo: install
	$(BIN)/python -m curation.scenes.zoo

# Data quality against quantity in the embedded world: 15 students and a verdict.
ablation: install
	$(BIN)/python -m curation.scenes.studio_shards runs/ablations/studio
	$(BIN)/curate ablate configs/ablations/scenes_triplet.yaml

# Loaders that `bench` compares with and whose dependencies contradict ours; torchvision has no build beside CPU torch.
peers: .venv-peers/.installed

.venv-peers/.installed: Makefile
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 pillow litdata==0.2.76 mosaicml-streaming==0.13.0
	.venv-peers/bin/python -m pip uninstall --quiet --yes torchvision
	@touch $@

clean:
	rm -rf .venv .venv-peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
