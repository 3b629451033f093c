# Everything from a bare machine: `make demo` runs the system, `make test` tests it. No Docker, no root.
# A target installs what it needs into .venv and into the cache folder; a second time nothing is downloaded.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
DEMO = $(PY) -m fraudstream demo $(if $(CSV),--csv "$(CSV)") $(if $(RATE),--rate $(RATE)) \
	$(if $(filter-out 0,$(ONCE)),--once) $(if $(filter-out 0,$(KEEP)),--keep)
TESTS ?=

.PHONY: help setup setup-dev demo test test-browser test-detection test-faults test-compose test-zookeeper \
	soak bench audit screenshots lint format clean

help:
	@echo "make demo   run everything: stack, stream, producer, dashboard (ONCE=1 CSV=path RATE=n KEEP=1)"
	@echo "make test   set up and pass all tests (TESTS=path for some; MYSQL_URL=... for another server)"
	@echo "make test-browser   all pages of the dashboard in Chromium, at length; make test has a few of these tests"
	@echo "make test-detection   training, evaluation, and stream against file, on whole files"
	@echo "make test-faults   what is killed, frozen, restored, encrypted or fed with garbage, at length"
	@echo "make soak   a steady load with faults at random, then all compared (MINUTES=20 SEED=n)"
	@echo "make test-compose   bring docker-compose.yml up and try all of it (needs a Docker engine)"
	@echo "make test-zookeeper   lose Kafka in every way, with the ZooKeeper of docker-compose.yml (likewise)"
	@echo "make bench   how fast all of it is, alone on the machine (BENCH='--quick', '--compare old.json', ...)"
	@echo "make audit   ask the Python package index about known weaknesses of what is installed"
	@echo "make screenshots   the pictures of README and docs, from a running demo"
	@echo "make lint   ruff and mypy;  make format  ruff format;  make clean  remove .venv"

setup: $(VENV)/.runtime $(VENV)/.compiled
	$(PY) -m fraudstream stack fetch
	$(PY) -m fraudstream.rehearsal

setup-dev: $(VENV)/.dev setup $(VENV)/.browser

demo: setup
	@exec $(DEMO)

test: setup-dev lint
	$(PY) -m pytest $(TESTS)

test-browser: setup-dev
	$(PY) -m pytest $(or $(TESTS),tests/browser)

test-detection: setup-dev
	$(PY) -m pytest tests/detection

test-faults: setup-dev
	$(PY) -m pytest $(or $(FAULTS),tests/faults)

soak: $(VENV)/.dev setup
	$(PY) -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

test-compose: setup-dev
	$(PY) -m pytest tests/compose --ignore=tests/compose/test_zookeeper.py

test-zookeeper: setup-dev
	$(PY) -m pytest tests/compose/test_zookeeper.py

bench: setup-dev
	$(PY) -m fraudstream bench $(BENCH)

# Fails as well where the index does not know a package: then nothing was found out about it.
audit: setup-dev $(VENV)/.audit
	$(VENV)/audit/bin/pip-audit --strict --path "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

screenshots: setup-dev
	$(PY) -m docs.screenshots

lint: $(VENV)/.dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: $(VENV)/.dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

clean:
	rm -rf $(VENV)

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else \
		f"Python 3.11 to 3.13 is needed, {sys.version.split()[0]} was found: make PYTHON=python3.11 ...")'
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python lacks venv: on Debian, apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@# What Python itself brings is old; nothing here needs its setuptools, which 3.12 has no longer.
	$(PY) -m pip install --disable-pip-version-check -q pip==26.3
	$(PY) -m pip uninstall -q -y setuptools
	touch $@

$(VENV)/.runtime: $(VENV)/.created requirements.txt constraints.txt
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt
	touch $@

# The features' loops as machine code, so that no run or test has to wait for it.
$(VENV)/.compiled: $(VENV)/.runtime $(addprefix fraudstream/,features.py history.py merchant_risk.py geography.py)
	$(PY) -c 'from fraudstream.features import compile_features; compile_features()'
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	$(PY) -m pip install --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/.audit: $(VENV)/.created requirements-audit.txt
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --disable-pip-version-check -q -r requirements-audit.txt
	touch $@

# A Chromium on the PATH, else Debian's as root, else the one that Playwright downloads.
$(VENV)/.browser: $(VENV)/.dev
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else \
		$(PY) -m playwright install chromium; \
	fi
	touch $@
