# The commands of README.md. Everything is installed into .venv; nothing else is touched.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: attack docs test clean

attack: .venv/installed
	$(BIN)/python train.py
	$(BIN)/python attack.py --target 2

test: .venv/installed-test
	$(BIN)/flake8
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Remakes the tour's numbers, pictures and notebooks, then the site; any warning is an error.
docs: .venv/installed-test
	$(BIN)/python -m docs.make_tour
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site
	@echo "open build/site/index.html"

# The pip that comes with Python 3.10 searches for minutes where a current one takes seconds.
.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs,test]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .hypothesis
