# make setup | lab | check | test | lint | bench | bench-quick | drills | deb | deb-test: everything a newcomer
# needs, from a bare Debian 12.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.complete
WORKERS ?= 2

# Each process would compile Neti anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup lab check test test-parallel kernel-test lint bench bench-quick drills deb deb-test clean

setup: $(STAMP)

$(STAMP): pyproject.toml lab/pyproject.toml scripts/system-packages
	scripts/system-packages
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --editable lab
	touch $(STAMP)

lab: setup
	$(VENV)/bin/neti lab demo

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The inner loop: what needs neither namespaces nor a lab.
check: setup lint
	$(VENV)/bin/python -m pytest -q --numprocesses $(WORKERS) tests/unit tests/docs tests/contract

# One at a time: some tests count what a busy neighbour would change. WORKERS=2 make test-parallel is
# quicker, on a machine that has room for it.
test: setup lint
	$(VENV)/bin/python -m pytest -m 'not package'

# Who gets what: tests/conftest.py
test-parallel: setup lint
	$(VENV)/bin/python -m pytest -m 'not package' --numprocesses $(WORKERS)

# The dataplane on another Linux: make kernel-test KERNEL=linux-image-5.10.0-30-amd64_5.10.218-1_amd64.deb
kernel-test: setup
	scripts/kernel-test $(KERNEL)

# dist/neti_VERSION_ARCH.deb
deb: setup
	scripts/build-deb

# Installs, runs, upgrades and removes the package on machines of its own, with a real systemd.
deb-test: deb
	scripts/debian-root build/debian-root
	$(VENV)/bin/python -m pytest -m package tests/package

# Beside what else there is: under 25 minutes, or under 4 with small sizes. docs/benchmarks.md
bench: setup
	scripts/system-packages bench
	$(VENV)/bin/python -m benchmarks

bench-quick: setup
	scripts/system-packages bench
	$(VENV)/bin/python -m benchmarks --quick

drills: setup
	$(VENV)/bin/python -m drills

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
