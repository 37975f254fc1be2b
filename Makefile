# Everything sets itself up: a Debian-like machine with python3 >= 3.11, make and git is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
DCMTK := echoscu storescu storescp dcmsend dcmrecv findscu getscu movescu termscu dcmqrscp wlmscpfs dcmdump dump2dcm
WORKERS ?= 2
CYCLES ?= 1000
SECONDS ?= 60
MINUTES ?= 10

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help serve test test-fast check docs bench bench-quick bench-check bench-growth crash fuzz soak types versions clean dcmtk orthanc odil gdcm

help:
	@echo "make serve        the archive: AE title ARCHIVE on 127.0.0.1:11112, everything in ./dulcet-data"
	@echo "make test         all checks and tests, with DCMTK, pynetdicom, Orthanc, odil and GDCM as peers, and the coverage"
	@echo "make test-fast    the tests of the core alone: no sockets, no processes, no peers; less than a minute"
	@echo "make versions     the tests on the other Pythons that are here, 3.11 to 3.14; make test does it too"
	@echo "make types        pyright: has every public name a type?"
	@echo "make check        ruff, mypy --strict, generated files, import law"
	@echo "make docs         the documentation as a site, in build/docs"
	@echo "make bench        the benchmarks against DCMTK, pynetdicom, Orthanc; bench-quick: a small version;"
	@echo "                  bench-growth: how cost grows; bench-check: has anything become slower?"
	@echo "make crash        kill the archive under 8 senders, CYCLES=1000 times, and look for what was lost"
	@echo "make fuzz         atheris on PDUs, command sets, headers and sessions, SECONDS=60 in all"
	@echo "make soak         20,000 associations and more of every kind for MINUTES=10; what grows is a failure"
	@echo "make clean        remove what the tools leave behind; keeps $(VENV) and dulcet-data"

serve: $(VENV)/.runtime
	@exec $(BIN)/dulcet serve --aet ARCHIVE --bind 127.0.0.1 --port 11112 --data ./dulcet-data --allow-any

check: $(VENV)/.dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	@for generator in tools/generate_*.py; do echo "$$generator --check"; $(BIN)/python $$generator --check || exit 1; done
	$(BIN)/python -m pytest -q tests/test_import_law.py tests/test_house_law.py

# A peer that is missing is a failure here, not a skipped test.
test: dcmtk orthanc odil gdcm check
	DULCET_REQUIRE_INTEROP=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --cov --cov-report=term
	@$(BIN)/python tools/other_pythons.py

# What decides, without what moves bytes: to be run after every change.
CORE_TESTS := tests/upper_layer tests/dimse tests/services $(wildcard tests/session) tests/part10 \
  tests/node/test_scripts.py tests/node/test_find_scripts.py tests/node/test_retrieve_scripts.py tests/io/test_layout.py \
  tests/io/test_send_buffer.py tests/test_import_law.py tests/test_house_law.py

test-fast: $(VENV)/.dev
	@DULCET_NO_SOCKETS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not interop and not outside" $(CORE_TESTS)

# The tests on every other Python from 3.11 to 3.14 that is here; VERSIONS="3.12 3.13" names those that must be.
versions: $(VENV)/.dev
	@$(BIN)/python tools/other_pythons.py --versions $(VERSIONS)

# How much of what users see is typed; pyright runs on node, which npm brings along or not, so `check` does without.
types: $(VENV)/.dev
	@command -v npx >/dev/null || { echo "npx is missing. Install node (Debian: sudo apt-get install npm)" >&2; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" npx --yes pyright@1.1 --ignoreexternal --verifytypes dulcet

# Internal links are errors here; their programs run in `make test`.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(VENV)/.dev dcmtk orthanc
	$(BIN)/python -m bench --docs
	$(BIN)/python -m bench --pictures

bench-quick: $(VENV)/.dev dcmtk orthanc
	$(BIN)/python -m bench --quick

bench-growth: $(VENV)/.dev
	$(BIN)/python -m bench --growth --docs

# Ratios to peers against those in bench/committed.json; no part of the tests, for machines differ.
bench-check: $(VENV)/.dev dcmtk orthanc
	$(BIN)/python -m bench --check

crash: $(VENV)/.dev
	$(BIN)/python -m tests.archive.crashing --cycles $(CYCLES)

fuzz: $(VENV)/.dev
	@$(BIN)/python -c 'import atheris' 2>/dev/null || { \
	  echo "installing atheris into $(VENV)"; $(PIP) install --editable '.[fuzz]'; }
	$(BIN)/python -m fuzzing $(SECONDS)

soak: $(VENV)/.dev
	$(BIN)/python -m fuzzing.soak $(MINUTES)

clean:
	rm -rf build dist htmlcov .venv-3.* .fuzzing .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# An existing environment is used as it is.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "dulcet needs Python >= 3.11; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.13 ..." >&2; exit 1; }
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "making $(VENV)"; \
	  if ! $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	      echo "installing python3-venv"; \
	      export DEBIAN_FRONTEND=noninteractive; \
	      apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null || exit 1; \
	      $(PYTHON) -m venv --clear $(VENV) || exit 1; \
	    else \
	      echo "'$(PYTHON) -m venv' failed: install it first (Debian: sudo apt-get install python3-venv)" >&2; exit 1; \
	    fi; \
	  fi; \
	fi
	@touch $@

$(VENV)/.runtime: pyproject.toml $(VENV)/.made
	@echo "installing dulcet into $(VENV)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "installing dulcet and its development tools into $(VENV)"
	@$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.runtime $@

$(VENV)/.docs: pyproject.toml $(VENV)/.made
	@echo "installing dulcet and the tools for its documentation into $(VENV)"
	@$(PIP) install --editable '.[docs]'
	@touch $@

dcmtk:
	@missing=; for tool in $(DCMTK); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing dcmtk"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends dcmtk >/dev/null || exit 1; \
	else \
	  echo "DCMTK's tools are missing:$$missing. Install them (Debian: sudo apt-get install dcmtk)" >&2; exit 1; \
	fi

# Debian puts it into /usr/sbin, and would start a server of its own: nothing here wants that one.
orthanc:
	@PATH="$$PATH:/usr/sbin"; command -v Orthanc >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing orthanc"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends orthanc >/dev/null || exit 1; \
	else \
	  echo "Orthanc is missing. Install it (Debian: sudo apt-get install orthanc)" >&2; exit 1; \
	fi

# A library of the system's Python, whatever Python is used here.
odil:
	@command -v odil >/dev/null && /usr/bin/python3 -c 'import odil' 2>/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing odil"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends odil python3-odil >/dev/null || exit 1; \
	else \
	  echo "odil is missing. Install it (Debian: sudo apt-get install odil python3-odil)" >&2; exit 1; \
	fi

gdcm:
	@command -v gdcmscu >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing gdcmscu"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends libgdcm-tools >/dev/null || exit 1; \
	else \
	  echo "GDCM's gdcmscu is missing. Install it (Debian: sudo apt-get install libgdcm-tools)" >&2; exit 1; \
	fi
