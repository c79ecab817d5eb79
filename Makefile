# make demo   a trained agent from nothing     make test   the whole suite     make lint   ruff and mypy
# make docs   the documentation as a site, in docs/_build
# make bench  how fast everything is, as ratios; writes docs/performance.md
# make map    the map of the code: modules, circles, floors, longest files and functions
# make constraints   writes the versions that are installed now into constraints.txt
PYTHON ?= python3
VENV ?= .venv
# torch first: a pinned build is taken as it is, a later range would fetch the newest one with all of CUDA.
# A machine with a GPU: make demo TORCH=torch
TORCH ?= torch==2.13.0
# ALFWorld builds a planner from source (cmake, make and g++; some minutes, once). Without it: make test ALFWORLD=
ALFWORLD ?= alfworld
# The versions that the suite passes with. The newest that pyproject.toml allows: make clean, make test CONSTRAINTS=
# It says nothing of torch, whose build depends on the machine; a torch that needs newer packages needs CONSTRAINTS= too.
CONSTRAINTS ?= constraints.txt
# Tests at the same time; 0 runs them one after the other in one process.
JOBS ?= 2
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL = $(PIP) install $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

.PHONY: demo test slow lint docs bench map install install-test install-docs constraints wheel clean

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test
install-docs: $(VENV)/.installed-docs

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	@echo "Installing torch (once) ..."
	$(INSTALL) '$(TORCH)'
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml $(CONSTRAINTS)
	@echo "Installing vlmagent ..."
	$(INSTALL) -e '.[all]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.torch pyproject.toml $(CONSTRAINTS)
	@echo "Installing vlmagent with its test tools ..."
	$(INSTALL) '$(TORCH)' -e '.[all,deepspeed,docs,test]'
ifneq ($(ALFWORLD),)
	@echo "Installing ALFWorld; the first time its planner is built, which takes some minutes ..."
	@$(INSTALL) '$(TORCH)' -e '.[$(ALFWORLD)]' || { echo \
	  "ALFWorld could not be installed: see above. Its planner is built from source by cmake, make and g++." \
	  "To go on without it and its tests: make $(MAKECMDGOALS) ALFWORLD="; exit 1; }
endif
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) '$(TORCH)' -e '.[docs]'
	@touch $@

demo: install
	$(BIN)/vlmagent train numberline
	$(BIN)/vlmagent eval numberline --checkpoint start --checkpoint latest
	@echo
	@echo "What next:"
	@echo "  $(BIN)/vlmagent runs show                 the run in numbers"
	@echo "  $(BIN)/vlmagent tui                       the dashboard: charts, every episode, every token"
	@echo "  $(BIN)/vlmagent train numberline --set seed=1 --detach"
	@echo "  $(BIN)/vlmagent --help"

test: install-test lint
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

slow: install-test
	$(BIN)/python -m pytest -m slow

lint: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# -W: a link that leads nowhere is an error.
docs: install-docs
	$(BIN)/python docs/pages.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo "Open docs/_build/index.html"

bench: install-test
	$(BIN)/python -m benchmarks.speed

map:
	$(PYTHON) -m tests.code_map

# Not torch and what its builds for GPUs bring, nothing that came from a folder, and versions without a build's tag.
constraints: install-test
	$(PIP) freeze --exclude-editable $(patsubst %,--exclude %,vlmagent torch triton pip setuptools wheel) > $(VENV)/frozen
	@{ echo "# Versions that the suite passes with, written by 'make constraints'. Each counts only if the package is wanted."; \
	  grep -v -e ' @ ' -e '^-' -e '^#' -e '^nvidia-' -e '^cuda-' $(VENV)/frozen | sed 's/+[^ ]*$$//'; } > constraints.txt
	@touch $(VENV)/.torch $(VENV)/.installed $(VENV)/.installed-test

wheel: install-test
	$(INSTALL) build
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
