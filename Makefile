# Everything a clone needs is made by these targets: a virtual environment in .venv, the package in
# it (editable), and the extras of the task at hand. Nothing is installed outside this folder.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
OUT ?= out
BENCH ?= scalar ops mlp cnn lstm gpt generate memory growth import

.DEFAULT_GOAL := help
.PHONY: help demo learn test lint format types docs bench mutants setup ci python clean
.NOTPARALLEL:

help: ## list the targets
	@echo "microgpt: make TARGET"
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/\1|\2/' \
		| awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'
	@echo "  PYTHON=python3.12 picks the interpreter; ARGS='-k config' is passed on to the command"

demo: $(VENV)/.installed-tutorials ## train the network of the digits tutorial, draw its pictures
	$(PY) tutorials/ch02_digits.py --out $(OUT) $(ARGS)

learn: $(VENV)/.installed-tutorials ## list the lessons; ARGS='7' runs those of chapter 7
	$(VENV)/bin/microgpt learn $(ARGS)

test: $(VENV)/.installed-test ## run all tests, and the examples in the docstrings
	$(PY) -m pytest -n auto $(ARGS)
	@# python_files= : only docstrings here, whatever the modules are called
	$(if $(ARGS),,$(PY) -m pytest -q --doctest-modules -o python_files= microgpt)

lint: $(VENV)/.installed-dev ## check style and formatting
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/.installed-dev ## put the files into the format that `make lint` wants
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

types: $(VENV)/.installed-dev ## check the types
	$(VENV)/bin/pyright --pythonpath $(PY)

docs: $(VENV)/.installed-docs ## build the site, with the lessons executed; ARGS=--full: not shrunk
	$(PY) docs/build.py $(ARGS)

bench: $(VENV)/.installed-test ## measure the speed; BENCH='gpt memory' picks what
	@for what in $(BENCH); do \
		echo "$(PY) -m benchmarks $$what"; $(PY) -m benchmarks $$what $(ARGS) || exit 1; \
	done

mutants: $(VENV)/.installed-test ## does the suite notice random mistakes? (300, half an hour)
	$(PY) -m tests.mutation --workers 2 $(ARGS)

setup: $(VENV)/.installed-dev ## make .venv with everything for working on microgpt

ci: ## everything that must pass before a change is accepted
	.ci/run

clean: ## remove .venv and everything that was made
	rm -rf $(VENV) $(OUT) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the virtual environment -------------------------------------------------------------------

# Prints the first interpreter that runs (a version manager's stub may be there and not run), is
# new enough, and can make virtual environments (Debian has that in a package of its own).
define find_python
found=; bare=; \
for p in $(or $(PYTHON),python3.13 python3.12 python3.11 python3.14 python3 python); do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	if "$$p" -c 'import ensurepip, venv' >/dev/null 2>&1; then found="$$p"; break; fi; \
	bare="$${bare:-$$p}"; \
done; \
if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	v=$$("$$bare" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	echo "microgpt: '$$bare' cannot make virtual environments, because its module ensurepip is" >&2; \
	echo "missing. On Debian and Ubuntu run: sudo apt-get install python$$v-venv" >&2; \
	exit 1; \
elif [ -z "$$found" ]; then \
	echo "microgpt: Python 3.11 or newer is required; $(if $(PYTHON),PYTHON=$(PYTHON) is not,none \
was found on the PATH)." >&2; \
	echo "Install it, or name it: make PYTHON=/path/to/python3.12 …" >&2; \
	exit 1; \
fi
endef

python: ## show which Python would be used
	@$(find_python); "$$found" -c 'import sys; print(sys.executable, sys.version.split()[0])'

$(VENV)/.made:
	@$(find_python); \
	echo "Making a virtual environment in $(VENV) with $$found ($$("$$found" -V))"; \
	"$$found" -m venv $(VENV)
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(VENV)/.made
	@echo "Installing microgpt with the extra '$*' into $(VENV) (the first time this takes a minute)"
	@$(PIP) install --quiet --editable ".[$*]" || { \
		echo "microgpt: the installation failed; see pip's message above. It needs the network or" >&2; \
		echo "a local package index (PIP_INDEX_URL) once." >&2; exit 1; }
	@touch $@
