# `make` lists what there is. Everything runs in .venv, which `make setup` makes from a bare Python 3.11.
PYTHON ?= python3.11
RUN := .venv/bin/python
DEMO := out/demo

# Tests run on two cores, files whole, those with most tests first. A process takes up to 3 GB.
# A process that crashes ends the run: the package that deals out the tests deals no more to the others (it would wait for ever).
PYTEST := $(RUN) -m pytest --numprocesses=2 --dist=loadfile --max-worker-restart=0
# Tests of numbers, and a processor without AVX: sums in another order (docs/reliability.md says what may differ).
NUMERIC := tests/schemas tests/stages/evaluate tests/stages/faces tests/stages/morphable tests/stages/train/listeners \
	$(wildcard tests/stages/test_acoustic*.py tests/stages/test_blink*.py tests/stages/test_threedmm*.py)
OLD := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OPENBLAS_CORETYPE=Nehalem

.PHONY: help setup demo test test-slow test-capped soak lint bench clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## make .venv with every dependency; does nothing where it is complete
	@$(PYTHON) -m jobs.setup

demo: setup ## make a small two-person video, rebuild a data set from it, train a listener on it, let it answer
	$(RUN) -m jobs.make_demo --out $(DEMO)/input
	$(RUN) -m jobs.build $(DEMO)/input/demo.toml --out $(DEMO)/data
	$(RUN) -m jobs.check $(DEMO)/data
	rm -rf $(DEMO)/run $(DEMO)/predicted
	$(RUN) -m jobs.train $(DEMO)/data --listener vico_lstm --set epochs=40 --out $(DEMO)/run
	$(RUN) -m jobs.predict $(DEMO)/run $(DEMO)/data --split test --out $(DEMO)/predicted
	$(RUN) -m jobs.respond $(DEMO)/input/speaker.mp4 --listener $(DEMO)/input/portrait.png --run $(DEMO)/run \
		--attitude positive --out $(DEMO)/answer.mp4

test: setup ## run the tests, without the slow ones
	$(PYTEST) -m "not slow"

test-slow: setup ## run the slow tests, files with the longest ones first
	$(PYTEST) --no-loadscope-reorder -m slow

test-capped: setup ## run the tests of numbers as on an older processor
	$(OLD) $(PYTEST) -m "not slow" $(NUMERIC)

soak: setup ## five minutes of everything that can happen to data sets, drawn at random; needs the right to mount
	timeout --kill-after=60 900 $(RUN) -m tests.labs.soak --hours 0.075

lint: setup ## check style, types and import rules
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

bench: setup ## time every stage beside the reference chain
	$(RUN) -m jobs.bench

clean: ## remove what the targets above made, .venv excepted
	rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
