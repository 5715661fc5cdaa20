# `make` lists what there is. Everything runs in .venv, which `make setup` makes from a bare Python 3.11.
PYTHON ?= python3.11
RUN := .venv/bin/python
DEMO := out/demo

.PHONY: help setup demo test test-slow lint bench clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## make .venv with every dependency; does nothing where it is complete
	@$(PYTHON) -m jobs.setup

demo: setup ## make a small two-person video, rebuild a data set from it, train a listener on it, predict with it
	$(RUN) -m jobs.make_demo --out $(DEMO)/input
	$(RUN) -m jobs.build $(DEMO)/input/demo.toml --out $(DEMO)/data
	$(RUN) -m jobs.check $(DEMO)/data
	rm -rf $(DEMO)/run $(DEMO)/predicted
	$(RUN) -m jobs.train $(DEMO)/data --listener vico_lstm --set epochs=40 --out $(DEMO)/run
	$(RUN) -m jobs.predict $(DEMO)/run $(DEMO)/data --split test --out $(DEMO)/predicted

test: setup ## run the tests, without the slow ones
	$(RUN) -m pytest -m "not slow"

test-slow: setup ## run the slow tests
	$(RUN) -m pytest -m slow

lint: setup ## check style, types and import rules
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

bench: setup ## time every stage beside the reference chain
	$(RUN) -m jobs.bench

clean: ## remove what the targets above made, .venv excepted
	rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
