# make test     everything, a fresh machine included: creates .venv, installs what tests need, runs make lint, make docs
#               and every test, and measures which lines of covseg_core they run
#               (Chromium, SLURM, Orthanc and dicom3tools of Debian, too, where root has apt-get; tests are skipped without)
# make check    for every commit: lints, type-checks, runs every test that needs neither a training nor a browser
# make lint     ruff and mypy only
# make docs     the site of docs/ in site/; a broken link is an error
# make run      the dashboard
# make slurm    a SLURM of two nodes on this machine, to try places; needs root
# make screenshots   docs/img from real trainings on synthetic scans, in about ten minutes
# make bench    every script in benchmarks/
# make campaign   what goes wrong, many times in a row: a table in docs/reliability.md. Hours; not in CI, which runs each small
# make mutants  small changes to the code, one at a time: how many do the tests notice? An hour, in copies; not in CI
# make pins     every package pinned with its SHA-256, from the short lists in requirements/; needs uv
# make niivue   fetches the viewer's library again, and its SHA-256; VERSION=0.70.0 for another one; needs npm
# make licences the licences of what is installed, in docs/reference/licences.md
# make clean    removes .venv and caches; never data/ and checkpoints/
#
# PYTHON=python3.12 make test    chooses the interpreter the environment is made with (3.11 to 3.13)
# COVSEG_REAL_DATA=folder        lets the tests on real CT data run; without it they are skipped
# TESTS="tests/evaluation"       runs only these instead of all
# WORKERS=1                      so many tests side by side; without it one a core, four at most
# CAMPAIGNS="kill race"         runs only these campaigns
# MODULES="lesions measures"     mutates only these of the modules in pyproject.toml; JOBS=1 spares the other cores
# SAMPLE=40                      makes only so many changes in each module, the same ones every time

PYTHON ?= python3
TESTS ?=
CAMPAIGNS ?=
WORKERS ?= logical
MODULES ?=
JOBS ?=
SAMPLE ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST := pytest --numprocesses=$(WORKERS) --maxprocesses=4 --dist=worksteal
# What a part of the tests runs says nothing about all of them.
COVERED := .coverage.json
COVERAGE := $(if $(TESTS),,-m slipcover --source covseg_core --json --out $(COVERED))
# Tests start some hundred processes, and none should compile the code again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help test check lint format run bench campaign mutants clean debian slurm docs screenshots pins niivue licences

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

test: lint docs debian
	$(BIN)/python $(COVERAGE) -m $(PYTEST) $(TESTS)
# A command of its own: SlipCover 1.1 shows nothing as covered where it also checks the figure of several processes.
	$(if $(TESTS),,$(BIN)/python -m slipcover --merge $(COVERED) --out $(COVERED) --skip-covered --fail-under 94)

check: lint
	$(BIN)/python -m $(PYTEST) -m "not training and not browser" $(TESTS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What tests find on a Debian and are skipped without, saying why. Another browser does as well, and no archive shall run
# on this machine because its package was installed.
debian:
	@PATH="$$PATH:/usr/sbin"; packages=""; \
	has() { for name; do command -v $$name >/dev/null && return; done; return 1; }; \
	has chromium chromium-browser google-chrome || packages="$$packages chromium"; \
	has slurmctld || packages="$$packages slurm-wlm"; \
	has Orthanc || packages="$$packages orthanc orthanc-dicomweb"; \
	has dciodvfy || packages="$$packages dicom3tools"; \
	[ -n "$$packages" ] || exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "Not here, and no root with apt-get to install it:$$packages. Some tests will be skipped" >&2; exit 0; \
	fi; \
	echo "Installing for the tests: apt-get install$$packages"; \
	export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; \
	for package in $$packages; do \
		apt-get -qq install -y --no-install-recommends $$package >/dev/null || \
			echo "$$package could not be installed: some tests will be skipped" >&2; \
	done; \
	case "$$packages" in *orthanc*) systemctl disable --now orthanc >/dev/null 2>&1 || true;; esac

slurm: $(VENV)/dev debian
	$(BIN)/python tests/synthetic/onecluster.py .slurm

docs: site/index.html

# The stamp of the site is its first page: the site is made again after any of these has changed.
site/index.html: $(VENV)/docs mkdocs.yml $(shell find docs covseg_core -name '*.md' -o -name '*.png' -o -name '*.py')
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict || { rm -f $@; exit 1; } # else the page would pass for a stamp

screenshots: $(VENV)/dev browser
	$(BIN)/python docs/screenshots.py

run: $(VENV)/run
	$(BIN)/streamlit run dashboard/app.py

bench: $(VENV)/dev
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

campaign: $(VENV)/dev
	PYTHONPATH=.:tests:tests/synthetic $(BIN)/python -m campaigns $(CAMPAIGNS)

pins:
	$(PYTHON) requirements/lock.py

niivue:
	$(PYTHON) requirements/niivue.py

licences: $(VENV)/run
	$(BIN)/python docs/licences.py

mutants: $(VENV)/dev
	$(BIN)/python tests/mutants.py $(if $(JOBS),--jobs $(JOBS)) $(if $(SAMPLE),--sample $(SAMPLE)) $(MODULES)

# The three files below are stamps: they stand for an environment that holds what the requirements name.
$(VENV)/run: requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "covseg needs Python 3.11 to 3.13; say which: PYTHON=python3.12 make test" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time this downloads about 0.6 GB"
	$(PIP) --require-hashes -r requirements/run.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: $(VENV)/run requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/docs: $(VENV)/run requirements/docs.txt
	$(PIP) --require-hashes -r requirements/docs.txt
	@touch $@

clean:
	rm -rf $(VENV) site build dist *.egg-info .mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage.json .slurm
	find . -name __pycache__ -type d -not -path './data/*' -not -path './checkpoints/*' -prune -exec rm -rf {} +
