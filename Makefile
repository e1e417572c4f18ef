# Every target makes .venv with all it needs first, from nothing but Python >= 3.11 and make.
#
#   make demo                    the whole migration, for real, in under a minute
#   make demo ARGS=--skip-drain  the same done wrong, to see users logged out
#   make test                    everything that needs pip wheels only
#   make test-system             what needs nginx, Caddy, Chromium and Node, installed by root
#   make check                   lint, format, types, layers, known holes of dependencies, said secrets
#   make fuzz DURATION=600       coverage-guided fuzzing, so many seconds for each of five readers
#   make soak DURATION=600       load on a whole deployment while it is hurt, and what its history says
#   make mutants                 what the tests of core/ would not notice (half an hour; resumes)
#   make coverage                branches of core/ that its own fast tests do not reach: none
#   make bench / make full       measurements; the long figures (hours)

PYTHON ?= python3
ARGS ?=
DURATION ?= 600
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-system check fuzz soak mutants coverage bench full clean

help:
	@sed -n 's/^#   //p' Makefile

venv: $(STAMP)

$(STAMP): pyproject.toml
	@command -v '$(PYTHON)' >/dev/null || \
	  { echo "$(PYTHON) not found: install Python 3.11 or later, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"$(PYTHON) is Python {v[0]}.{v[1]}; 3.11 or later is needed: make PYTHON=/path/to/python")'
	@test -x $(BIN)/python || '$(PYTHON)' -m venv .venv || \
	  { rm -rf .venv; echo "python -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: venv
	@$(BIN)/migrator demo $(ARGS)

test: venv
	$(PYTEST) -n $(WORKERS) --dist loadgroup -m 'not system and not full' $(ARGS)

# pytest exits 5 when a marker selects no test, which is no failure while there are none.
run_marked = $(PYTEST) -m '$(1)' $(ARGS) || \
  { status=$$?; test $$status -eq 5 && echo '0 passed, 0 failed: no test is marked $(1) yet' || exit $$status; }

test-system: venv
	@tests/system/packages.sh
	$(PYTEST) -n $(WORKERS) --dist loadgroup -m system $(ARGS)

full: venv
	@$(call run_marked,full)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.audit
	$(BIN)/python -m tests.lint

fuzz: venv
	@$(BIN)/python -m tests.fuzz --seconds $(DURATION) $(ARGS)

soak: venv
	@$(BIN)/python -m tests.soak --seconds $(DURATION) $(ARGS)

mutants: venv
	@$(BIN)/python -m tests.mutants.score --retry
	$(BIN)/mutmut run --max-children $(WORKERS)
	@$(BIN)/python -m tests.mutants.score

coverage: venv
	$(BIN)/python -m coverage run --branch --source=migrator.core -m pytest -n 0 -q -m "not full" tests/core $(ARGS)
	$(BIN)/python -m coverage report --fail-under=100 --show-missing --skip-covered

bench: venv
	@$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf .venv build dist mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
