# The front door. Needs a Python from 3.11 on and make; everything else goes into .venv.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
LAB_PORT ?= 8888
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A shell may carry another project's environment; none of it may reach ours.
unexport PYTHONPATH PYTHONHOME PYTHONWARNINGS VIRTUAL_ENV CONDA_PREFIX
# Without the compiled files each of the many processes that tests start would compile torch anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX
unexport PIP_USER PIP_TARGET PIP_PREFIX UV_SYSTEM_PYTHON UV_PYTHON UV_TARGET UV_PREFIX
# Tests and demo run on the defaults, whatever the operator has configured.
DEFAULTS := env $(foreach name,$(filter RETORT_%,$(.VARIABLES)),-u $(name))

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-all check lint chaos chaos-quick fmt test-browser screenshots looks test-containers test-gpu gpu-check lock clean coverage newcomer docs lab notebooks

help:
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'

setup: $(READY)  ## install everything into .venv (the others do this by themselves)

demo: $(READY)  ## distil a detector end to end on this machine, and print the verdict
	@$(DEFAULTS) $(BIN)/python examples/demo.py

up: $(READY)  ## run the service on HOST:PORT (127.0.0.1:8000) until Ctrl-C
	@exec $(BIN)/retort up --host $(HOST) --port $(PORT)

# Reached from this machine alone, by the token in the address that it prints, whatever the user's own configuration says.
lab: $(READY)  ## open the notebooks in JupyterLab on 127.0.0.1:LAB_PORT (8888) until Ctrl-C
	@exec $(BIN)/jupyter-lab --config=deploy/lab/jupyter.json --notebook-dir=notebooks --port=$(LAB_PORT) \
	  $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

notebooks: $(READY)  ## execute the notebooks anew, and write them with what they show
	@$(DEFAULTS) env PYTHONPATH=tests $(BIN)/python -m lab.notebooks

# Two processes for each core, each bound to its own (tests/sharing.py); ARGS="-k word" narrows any of them.
PYTEST := $(DEFAULTS) $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: $(READY)  ## run before each commit: all that trains no network, and the smallest real job
	@$(PYTEST) -m "not train or smallest" $(ARGS)

test-all: $(READY)  ## run the same, and every test that trains
	@$(PYTEST) $(ARGS)

check: $(READY)  ## run all that CI runs: lint, a little chaos, all tests; print what took how long
	@began=$$(date +%s); $(MAKE) --no-print-directory lint && echo "lint: $$(($$(date +%s) - began)) s"
	@began=$$(date +%s); $(MAKE) --no-print-directory chaos-quick && echo "chaos-quick: $$(($$(date +%s) - began)) s"
	@$(PYTEST) -m "train and not smallest"
	@$(MAKE) --no-print-directory test

lint: $(READY)  ## look at the code without running it: lint, format, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

CHAOS := $(DEFAULTS) env PYTHONPATH=tests $(BIN)/python -m chaos

chaos: $(READY)  ## torment a whole service for an hour, and print what was lost (JSON=PATH keeps it)
	@$(CHAOS) $(if $(JSON),--json $(JSON))

chaos-quick: $(READY)  ## the same in two minutes
	@$(CHAOS) --quick $(if $(JSON),--json $(JSON))

fmt: $(READY)  ## format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

test-browser: $(READY)  ## run the part of make test that looks at the pages in a real browser
	@$(PYTEST) tests/browser $(ARGS)

screenshots: $(READY)  ## take the documentation's pictures of every page anew (PAGES="jobs login" names some)
	@$(DEFAULTS) env PYTHONPATH=tests $(BIN)/python -m browser.pictures $(PAGES)

looks: $(READY)  ## take every page at two widths, light and dark, empty, full and failing, into LOOKS (a folder)
	@$(DEFAULTS) env PYTHONPATH=tests $(BIN)/python -m browser.looks $(or $(LOOKS),$(error make looks LOOKS=folder [ARGS=word])) $(ARGS)

test-containers: $(READY)  ## build the images, run one job and one notebook (needs root, buildah and podman)
	./deploy/test-containers.sh

test-gpu: $(READY)  ## run the tests that need a CUDA device
	@$(DEFAULTS) $(BIN)/python -m pytest -m gpu $(ARGS)

gpu-check: $(READY)  ## measure in 8 minutes what only a GPU can show, into OUT (runs/gpu-check)
	@$(DEFAULTS) env PYTHON=$(BIN)/python OUT=$(or $(OUT),runs/gpu-check) ./benchmarks/gpu_check.sh

coverage: $(READY)  ## run what make test runs, and print which share of the lines it has executed
	@$(PYTEST) -m "not train or smallest" --cov=retort --cov=retort_api --cov=retort_worker --cov-report=term:skip-covered $(ARGS)

newcomer:  ## clone HEAD into an empty folder and run the README's two commands there (TARGETS="demo test")
	@./deploy/newcomer.sh

docs: $(READY)  ## build the documentation as a site in .site, with its links checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict && echo "built: .site/index.html"

# Nothing younger than a week, so that a package that was tampered with has had time to be found out.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
	  --exclude-newer "$$($(BIN)/python -c 'import datetime as d; print(d.date.today() - d.timedelta(7))')"
AS_DEV = $(COMPILE) --constraint requirements/dev.txt

lock: $(READY)  ## resolve the requirement files anew (UPGRADE=1 takes newer versions), from what is a week old
	$(COMPILE) $(if $(UPGRADE),--upgrade) --all-extras --group dev pyproject.toml -o requirements/dev.txt
	$(AS_DEV) --extra api pyproject.toml -o requirements/api.txt
	$(AS_DEV) --extra worker --extra train --extra tracking pyproject.toml -o requirements/worker.txt
	$(AS_DEV) --extra lab --extra demo pyproject.toml -o requirements/lab.txt
	echo hatchling | $(AS_DEV) - -o requirements/build.txt
	@{ echo "# The installer itself; copied from dev.txt by make lock."; \
	  sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.txt; } > requirements/uv.txt

clean:  ## remove what make has made: .venv, caches, the demo's folder
	rm -rf $(VENV) runs/demo .site .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Retort needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import cv2' || \
	  { echo "OpenCV cannot start; on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0" >&2; exit 1; }
	@touch $@
