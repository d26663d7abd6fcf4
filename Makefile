# The commands of README.md. Everything is installed into .venv; nothing else is touched.
PYTHON ?= python3
BIN = .venv/bin
# Where the baseline libraries of the benchmarks live: they need packages that ours does not.
PEERS = .venv-peers/bin
# Where the package is installed alone, as users have it.
SMOKE = .venv-smoke/bin

.PHONY: attack clean docs lint peers playground quick smoke test torture

attack: .venv/installed
	$(BIN)/python train.py
	$(BIN)/python attack.py --target 2

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# For the everyday loop: no browser, no data set service, no subprocess, no long comparison.
quick: .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: .venv/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pydoclint mnist_adv
	$(BIN)/lint-imports
	$(BIN)/mypy

# Thousands of faults: damaged files, hostile models, killed commands, wrong flags. Takes an hour.
torture: .venv/installed-test
	$(BIN)/python -m tests.faults --write

# Remakes the tour's numbers, pictures and notebooks, then the site; any warning is an error.
docs: .venv/installed-test
	$(BIN)/python -m docs.make_tour
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo "open build/site/index.html"

# A page to play with, of a plain and a robust model.
playground: .venv/installed
	test -e checkpoints/checkpoint || $(BIN)/python train.py
	test -e build/playground/robust/checkpoint || $(BIN)/python train.py --defend linf --epsilon 0.1 \
		--checkpoint_dir build/playground/robust --logdir build/playground/logs
	$(BIN)/python -m mnist_adv playground --robust_checkpoint_dir build/playground/robust \
		--output build/playground/playground.html

# Sets up the environment of the comparison with other libraries, and runs a short race.
peers: .venv-peers/installed
	$(PEERS)/python train.py --checkpoint_dir build/peers/checkpoints --logdir build/peers/logs
	$(PEERS)/python -m benchmarks.baseline_libraries --checkpoint_dir build/peers/checkpoints \
		--results_dir build/peers --num_images 100 --rounds 1 --attacks pgd_linf ddn

# Runs what users do, where no extra is installed.
smoke: .venv-smoke/installed
	$(SMOKE)/python -m pip install --quiet --no-deps --force-reinstall .
	$(SMOKE)/python tests/smoke.py

# The pip that comes with Python 3.10 searches for minutes where a current one takes seconds.
.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs,test]'
	touch $@

.venv-peers/installed: benchmarks/requirements.txt benchmarks/requirements-no-deps.txt setup.cfg
	$(PYTHON) -m venv .venv-peers
	$(PEERS)/python -m pip install --quiet --upgrade pip
	$(PEERS)/python -m pip install --quiet --editable . --requirement benchmarks/requirements.txt
	$(PEERS)/python -m pip install --quiet --no-deps --requirement benchmarks/requirements-no-deps.txt
	touch $@

.venv-smoke/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv --clear .venv-smoke
	$(SMOKE)/python -m pip install --quiet --upgrade pip
	$(SMOKE)/python -m pip install --quiet .
	touch $@

clean:
	rm -rf .venv .venv-peers .venv-smoke build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
