# Two commands for a newcomer: `make demo` and `make test`. Each installs what it needs into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := signspool callback_api processor shared simulator benchmarks tests
TEST_ARGS ?= -n 3 --dist loadfile

.PHONY: help demo install install-test install-bench test test-failed test-deploy check bench format man lock clean

help:
	@echo "make demo    simulated providers and DMS: callbacks in, signed files delivered (about 15 seconds)"
	@echo "make test    every test, on SQLite and on PostgreSQL"
	@echo "make test-deploy  boots a Debian, installs, restarts under load, upgrades, restores, removes; runs the containers (as root; some minutes)"
	@echo "make check   formatting, lint and types"
	@echo "make bench   every figure of the README, each beside what it is compared with (about half an hour; needs wrk)"
	@echo "make install the .venv with the signspool command in it"
	@echo "make man     renew docs/man/signspool.1 from the texts of --help"
	@echo "make lock    renew requirements.lock and requirements-test.lock"

demo: install
	$(BIN)/signspool demo

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

install-test: $(VENV)/.installed-test

$(VENV)/.installed-test: requirements-test.lock $(VENV)/.installed
	$(PIP) install --quiet --require-hashes -r requirements-test.lock
	touch $@

test: install-test
	$(BIN)/python -m pytest $(TEST_ARGS)

# Once more what failed last, by whole files, since tests of one file may build on one another.
test-failed: install-test
	failed=$$($(BIN)/python -c "import json, pathlib; \
		failed = json.loads(pathlib.Path('.pytest_cache/v/cache/lastfailed').read_text()); \
		print(*sorted({name.partition('::')[0] for name in failed}))") && \
	test -n "$$failed" && $(BIN)/python -m pytest $$failed

# Says what it skips, and why, where there is no root, no systemd-nspawn or no network. What it fetches is kept outside
# of the repository, so that it is fetched once.
test-deploy: install-test
	tests/deploy/tools.sh
	TEST_DEPLOY=1 $(BIN)/python -m pytest tests/deploy

install-bench: $(VENV)/.installed-bench

$(VENV)/.installed-bench: requirements-bench.lock $(VENV)/.installed-test
	$(PIP) install --quiet --require-hashes -r requirements-bench.lock
	touch $@

# `make bench BENCH_ARGS="--quick door"` for a first look at one of them.
bench: install-bench
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

check: install-bench
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(SOURCES)

format: install-test
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

man: install
	$(BIN)/signspool man > docs/man/signspool.1

# Needs `uv` on the path; the lock files name no index.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock"
lock:
	$(LOCK) --upgrade --group build pyproject.toml -o requirements.lock
	$(LOCK) --upgrade --group build --group test -c requirements.lock pyproject.toml -o requirements-test.lock
	$(LOCK) --upgrade --group bench -c requirements-test.lock pyproject.toml -o requirements-bench.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
