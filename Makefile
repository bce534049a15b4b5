# warmspare: `make demo` sets everything up and shows it at work; `make test` sets everything up and checks it.
# Both need a Debian 12 with nothing on it but make and a way to root (root itself, or sudo) for apt.

.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
export PYTHONDONTWRITEBYTECODE :=  # tests start some thousand interpreters: none is to compile the program anew
.PHONY: demo test test-slow test-again quick quick-lint quick-tests native lint bench clean

VENV := .venv
BIN := $(VENV)/bin
NATIVE := setup.py pyproject.toml $(wildcard ext/*.pyx) $(wildcard ext/*.pxd) $(wildcard ext/*.h) $(wildcard ext/hash128/*)
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed
QUICK := $(VENV)/.quick-installed

demo: $(RUN)
	PYTHONPATH=tests $(BIN)/python tests/sitedemo.py

test: $(DEV) lint
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

test-slow: $(DEV)
	$(BIN)/pytest -m slow --timeout 14400 -s

test-again: $(DEV)
	$(BIN)/python tests/again.py

# The small loop: no root, no apt, no server.
quick: $(QUICK)
	$(MAKE) -j2 --no-print-directory quick-lint quick-tests

quick-lint:
	$(BIN)/ruff check -q .
	$(BIN)/ruff format --check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports >/dev/null || $(BIN)/lint-imports

quick-tests:
	$(BIN)/pytest --quick -n 2 tests/unit tests/format tests/property

# Extensions whose sources changed, in place.
native: $(QUICK)
	$(BIN)/python setup.py -q build_ext --inplace

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(DEV)
	@echo "each script in bench/ answers one question; run for example: $(BIN)/python bench/sender.py"
	@sed -n '/^| script/,/^$$/p' bench/README.md

clean:
	rm -rf $(VENV) build src/*.egg-info src/warmspare/_native/*.so ext/*.c bench/data .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.system: .ci/setup-system
	.ci/setup-system
	python3 -m venv $(VENV)
	touch $@

$(RUN): $(VENV)/.system $(NATIVE)
	.ci/pip-install $(BIN)/python .
	touch $@

$(DEV): $(VENV)/.system $(NATIVE)
	.ci/pip-install $(BIN)/python '.[dev]'
	touch $@ $(RUN) $(QUICK)

# The same without Debian's packages: what needs them is not in the small loop.
$(QUICK):
	test -x $(BIN)/python || python3 -m venv $(VENV)
	.ci/pip-install $(BIN)/python '.[dev]'
	touch $@
