# From a clean checkout, `make demo` runs the main job and `make test` every test; both first install what they need
# into .venv (Python 3.11 and the package registries are enough); `make test` also calls `make tools`.

SHELL := bash
.SHELLFLAGS := -e -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:

PYTHON ?= $(firstword $(shell command -v python3.11 python3))
INSTALLED := .venv/.installed
TESTING := .venv/.testing
# A file of tests stays in one process, for what its tests share.
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile
# Programs that tests call and no Python package brings, each with the Debian package that does.
TOOLS := mlir-opt-19:mlir-19-tools chromium-headless-shell:chromium-headless-shell
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv tools demo test test-nightly test-quick lint lit lock reference docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

venv: $(INSTALLED) ## install the locked packages and dcomc itself into .venv

$(INSTALLED): requirements.lock requirements-data.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "error: dcomc needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv .venv
	python -m pip install -r requirements.lock
	python -m pip install --no-deps -r requirements-data.lock
	python -m pip install --no-deps --no-build-isolation -e .
	touch $@

$(TESTING): $(INSTALLED) requirements-test.lock
	python -m pip install --no-deps -r requirements-test.lock
	touch $@

# A test whose program is still missing after this fails and says what to install.
tools: ## install what tests call and pip does not bring, where apt-get may
	@missing=
	for tool in $(TOOLS); do command -v "$${tool%:*}" > /dev/null || missing+=" $${tool#*:}"; done
	[ -n "$$missing" ] || exit 0
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
		apt-get update --quiet --quiet
		apt-get install --quiet --quiet --yes --no-install-recommends $$missing
	else
		echo "not installed, and tests need it: apt-get install$$missing" >&2
	fi

demo: $(INSTALLED) ## trace, compile, simulate and run SmolLM2-135M with four decomposed layers
	@bash demo.sh

# pytest comes last: its summary is the last line.
test: tools lint lit ## run every check and every test
	pytest $(PARALLEL)

test-nightly: $(TESTING) tools ## ten times as many random cases: 2,000 programs on both engines, and more
	pytest --hypothesis-profile=nightly test/runtime test/passes test/dcomc/test_mutated.py

test-quick: tools lint lit ## the same without the full-size tests
	pytest $(PARALLEL) -m "not slow"

lint: $(TESTING) ## check format, style and types
	ruff format --check .
	ruff check .
	pyright

lit: $(TESTING) ## run the FileCheck tests of dialects, passes and tools
	lit -v test

docs: $(INSTALLED) ## run the demo and the tutorial, and write what they print into README.md and docs/tutorial.md
	python docs/update_readme.py
	python docs/update_tutorial.py

reference: $(INSTALLED) ## write docs/dialects, docs/passes.md, docs/isa.md and dialects/*.irdl anew from the code
	python -m dcomc.reference

lock: $(TESTING) ## write the lock files anew from pyproject.toml (remove them first to take the newest of everything)
	compile() { uv pip compile pyproject.toml --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" "$$@"; }
	compile --extra model --extra figures --extra report --extra perfetto --output-file requirements.lock
	compile --all-extras --constraints requirements.lock --output-file requirements-test.lock

clean: ## remove what was installed and what was made
	rm -rf .venv build demo ./*.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	find test \( -name Output -o -name .lit_test_times.txt \) -prune -exec rm -rf {} +
