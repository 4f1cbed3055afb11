# make setup | lab | check | test | coverage | lint | screenshots | bench | bench-quick | drills |
# bundle | package-test | bundle-check: everything a newcomer needs, from a bare Debian 12.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.complete
# 0: one test at a time. 4: for a machine with more processors.
WORKERS ?= 3
# So many drills at once.
LANES ?= 2

# Each process would compile Neti anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup lab check quick test test-lowest test-newest every screenshots coverage kernel-test lint style types bench bench-quick drills bundle bundle-check package-test release clean

setup: $(STAMP)

$(STAMP): pyproject.toml lab/pyproject.toml scripts/system-packages src/neti/dashboard/browser-files.json tests/browser/browser-files.json
	scripts/system-packages
	$(PYTHON) scripts/browser_files.py tests
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --editable lab
	touch $(STAMP)

lab: setup
	$(VENV)/bin/neti lab demo

lint: style types

style: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# It gives way to tests that run beside it.
types: setup
	nice $(VENV)/bin/mypy

# The inner loop: what needs neither namespaces nor a lab, and properties with a third of their
# examples. Types are checked beside the tests.
check: setup
	$(MAKE) --no-print-directory --jobs 2 lint quick

quick: setup
	$(VENV)/bin/python -m pytest -q --numprocesses 2 --hypothesis-profile=quick tests/unit tests/docs tests/contract

# What the same tests, and those of neti aws, cover of each room, in branches too; red below a floor.
coverage: setup
	$(VENV)/bin/python -m pytest -q --numprocesses 2 --cov --cov-report= tests/unit tests/docs tests/contract tests/aws

# Everything. One worker runs labs, one at a time, and another one what else waits more than it works;
# a third fills their pauses with what computes. The short drills play beside them.
# tests/conftest.py says who gets what.
test: setup style
	$(MAKE) --no-print-directory --jobs 2 types every

every: setup
	$(VENV)/bin/python -m pytest --numprocesses $(WORKERS)

# The inner loop's tests with the lowest versions of all run-time dependencies that pyproject.toml allows.
test-lowest: setup
	$(PYTHON) -m venv build/lowest
	$(VENV)/bin/python scripts/lowest.py > build/lowest/lowest.txt
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check \
	    --constraint build/lowest/lowest.txt --editable '.[aws,dashboard]' --editable lab \
	    pytest pytest-xdist hypothesis
	build/lowest/bin/python -m pytest -q --tb=native --numprocesses 2 tests/unit tests/contract

# The same with the newest Python that Debian has, and the newest versions of all.
test-newest: setup
	scripts/newest-python

# The pictures of the dashboard in docs/images, by the code of a test.
screenshots: setup
	scripts/system-packages pictures
	$(VENV)/bin/python -m tests.browser.screenshots
	pngquant --force --strip --skip-if-larger --speed 1 --ext .png docs/images/*.png

# The dataplane on Debian's own kernels, from 5.10 to the newest, each in a virtual machine. Another
# one: make kernel-test KERNELS=linux-image-VERSION.deb
KERNELS ?= bullseye bookworm trixie newest
kernel-test: setup
	scripts/system-packages kernels
	scripts/each-kernel $(KERNELS)

# dist/neti-VERSION-linux-ARCH.tar.gz, and a .deb and a .rpm of the same. ARCHES="amd64 arm64": both.
bundle: setup
	scripts/system-packages bundle
	$(VENV)/bin/python -m bundling build $(ARCHES)

# What of the bundle has a newer version in the registries.
bundle-check: setup
	scripts/system-packages bundle
	$(VENV)/bin/python -m bundling check

# What hosts have beside the bundle, of which each test takes what it asks for.
MODULES := libnss-resolve libnss-myhostname libnss-mymachines libnss-systemd libeatmydata1 iptables

# Installs, runs, upgrades and removes the packages on machines of its own, each with a real systemd:
# Debian 11 to the next, and one that has a shell and systemd only.
package-test: bundle
	for release in bullseye bookworm trixie forky; do scripts/debian-root build/roots/$$release $$release; done
	for release in bullseye bookworm forky; do scripts/debian-packages build/roots/$$release-modules $$release $(MODULES); done
	scripts/debian-root build/roots/neighbours trixie ufw firewalld iptables network-manager netcat-openbsd
	$(VENV)/bin/python -m pytest -m package tests/package

# All checks, everything built twice, signed by gpg's KEY, into dist/VERSION: CONTRIBUTING.md. Takes
# hours; what passed for this commit before is not run again.
release: setup
	scripts/system-packages bundle
	$(VENV)/bin/python -m bundling.release $(VERSION) --key $(KEY) $(addprefix --skip ,$(SKIP))

# Beside what else there is: under 25 minutes, or under 4 with small sizes. docs/benchmarks.md
bench: setup
	scripts/system-packages bench
	$(VENV)/bin/python -m benchmarks

bench-quick: setup
	scripts/system-packages bench
	$(VENV)/bin/python -m benchmarks --quick

# In full, then the migration of a whole fleet among troubles, and without public addresses, the day's
# 200 policies against real packets, and then all of the day's seeds, of which make test plays the
# first.
drills: setup
	$(VENV)/bin/python -m drills --lanes $(LANES)
	$(VENV)/bin/python -m pytest -m long tests/lab tests/kernel/test_cells.py
	$(VENV)/bin/python -m simulation --seeds 1000 --first $$(date -u +%Y%m%d)000 --steps 40 --largest 6

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
