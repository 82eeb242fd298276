# Two commands on a fresh machine with Python ≥ 3.11 and make:  make demo   and   make test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UNETKIT := $(BIN)/unetkit
DEMO ?= demo
CLASSES := background,cell,membrane

BENCH ?= .bench-venv

.PHONY: demo test lint format clean bench-env
.DEFAULT_GOAL := help

help:
	@echo "make demo   install, and run the main job on a synthetic sample set (about 5 minutes)"
	@echo "make test   install, and run the whole test suite"
	@echo "make lint   formatting, style, types and layers"
	@echo "make bench-env   the environment of benchmarks/arena, with what is measured against"

# The environment: made once, and again when the dependencies change. The package without its dependencies is one that
# tests compare with; what it asks for besides (timm, einops) is for networks other than its U-Nets.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unetkit needs Python 3.11 or newer; call make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,against,signals,geo,medical,microscopy]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps dynamic-network-architectures
	touch $@

# The main job, command by command, on generated micrographs. A run that was interrupted goes on where it was.
demo: $(VENV)/.installed
	$(UNETKIT) sample $(DEMO)/data
	$(UNETKIT) check $(DEMO)/data --classes $(CLASSES)
	$(UNETKIT) plan $(DEMO)/data --minutes 2 --classes $(CLASSES) -o $(DEMO)/plan.yaml
	$(UNETKIT) train $(DEMO)/data -o $(DEMO)/run --minutes 2 --classes $(CLASSES)
	$(UNETKIT) predict $(DEMO)/run $(DEMO)/data/test/images -o $(DEMO)/predictions --overlay
	$(UNETKIT) evaluate $(DEMO)/predictions $(DEMO)/data/test --classes $(CLASSES) -o $(DEMO)/scores
	@echo
	@echo "Done. The scores above are of images that training never saw (synthetic micrographs, made by unetkit)."
	@echo "Look at   $(DEMO)/run/report.html          the report: data, plan and its reasons, curves, scores, overlays"
	@echo "          $(DEMO)/predictions/             a mask for each held-out image, and overlays/ among them"
	@echo "Yours:    $(UNETKIT) train YOUR_FOLDER -o runs/mine --minutes 10"

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff format --check src tests benchmarks docs examples
	$(BIN)/ruff check src tests benchmarks docs examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed
	$(BIN)/ruff format src tests benchmarks docs examples
	$(BIN)/ruff check --fix src tests benchmarks docs examples

# What the arena measures against, beside unetkit, in an environment of its own. The packages of peers.txt ask for a
# torchvision that fits a CUDA torch, and for more that they do not import: so they come without what they ask for.
bench-env: $(BENCH)/.installed

$(BENCH)/.installed: pyproject.toml constraints.txt benchmarks/arena/requirements.txt benchmarks/arena/peers.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade pip
	$(BENCH)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[signals]' --requirement benchmarks/arena/requirements.txt
	$(BENCH)/bin/python -m pip install --quiet --no-deps --requirement benchmarks/arena/peers.txt
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
