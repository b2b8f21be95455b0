# `make demo` and `make test` need Python 3.10 to 3.13 and nothing else; they make .venv themselves.

# The interpreter that .venv is made with: make demo PYTHON=python3.12
PYTHON ?= python3
# Tried in turn if that one is too old or too new for TensorFlow.
PYTHONS = $(PYTHON) python3.13 python3.12 python3.11 python3.10
SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))

# How long the soak takes: make soak MINUTES=1
MINUTES ?= 10

# Tests wait as often as they compute: one process waits while the other computes, each with brokers
# of its own. A file's tests stay together.
SIDE_BY_SIDE = --numprocesses 2 --dist loadfile

VENV = .venv
RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo dashboard test bench soak pictures lint audit format clean

help: ## show this list
	@grep -hE '^[a-z]+:.* ## ' $(MAKEFILE_LIST) | awk -F ':.* ## ' '{printf "make %-8s %s\n", $$1, $$2}'

demo: $(VENV)/demo.installed ## name the cars in data/imagenes_test: broker, consumer, producer
	@$(RUN) -m car_classifier.demo

dashboard: $(VENV)/dashboard.installed ## show the results in a browser
	@$(RUN) -m streamlit run dashboard/app.py

test: $(VENV)/dev.installed ## run all tests, with coverage; real Kafka too, given Java and Maven
	$(RUN) -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term

bench: $(VENV)/bench.installed ## measure speed (10 minutes; leave the machine alone): benchmarks/results
	$(RUN) -m benchmarks.pipeline
	$(RUN) -m benchmarks.producer
	$(RUN) -m benchmarks.scaling

pictures: $(VENV)/dev.installed ## draw the README's pictures anew, by the tests that make them: docs
	PICTURES=docs $(RUN) -m pytest -m pictures

soak: $(VENV)/dev.installed ## run for MINUTES=10 with poison, kills and a broker restart; nothing may be lost
	$(RUN) -m benchmarks.soak --minutes $(MINUTES)

lint: $(VENV)/dev.installed ## check style, formatting and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

audit: $(VENV)/dev.installed ## look up known vulnerabilities of the installed packages (needs the network)
	$(RUN) .ci/audit.py

format: $(VENV)/dev.installed ## rewrite the files in the project's format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean: ## remove .venv and what the tools left
	rm -rf $(VENV) .coverage .coverage.* .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than the lists they stand for, so a second run installs nothing.
$(VENV)/demo.installed: requirements.txt requirements/demo.txt requirements/database.txt | $(VENV)/bin/pip
	@echo "Installing what the demo needs (TensorFlow is large: some minutes the first time)..."
	@$(PIP) $(patsubst %,-r %,$^)
	@touch $@

$(VENV)/dashboard.installed: requirements.txt requirements/dashboard.txt requirements/database.txt | $(VENV)/bin/pip
	@echo "Installing what the dashboard needs (TensorFlow is large: some minutes the first time)..."
	@$(PIP) -r requirements/dashboard.txt
	@touch $@

$(VENV)/bench.installed: requirements.txt $(wildcard requirements/*.txt) | $(VENV)/bin/pip
	@echo "Installing what the benchmarks need (TensorFlow is large: some minutes the first time)..."
	@$(PIP) -r requirements/bench.txt
	@touch $@

$(VENV)/dev.installed: requirements.txt $(wildcard requirements/*.txt) | $(VENV)/bin/pip
	@echo "Installing what tests and tools need (TensorFlow is large: some minutes the first time)..."
	@$(PIP) -r requirements/dev.txt
	@touch $@

# pip comes last when a virtual environment is made: without it the making was broken off.
$(VENV)/bin/pip:
	@for python in $(PYTHONS); do \
		if $$python -c '$(SUPPORTED)' 2>/dev/null; then \
			echo "Making $(VENV) with $$($$python --version) ($$python)..."; \
			$$python -m venv $(VENV) && exit 0; \
			echo "make: $$python cannot make $(VENV) (Debian, Ubuntu: apt-get install python3-venv)" >&2; \
			exit 1; \
		fi; \
	done; \
	echo "make: Python 3.10 to 3.13 is needed; tried $(PYTHONS)" >&2; \
	exit 1
