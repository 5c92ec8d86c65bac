# make env    the virtual environment in .venv, with pinned versions
# make demo   a grid of 30 trials on toybirds: leaderboard, ablation, report (minutes, no GPU, no download)
# make test   everything: lint, types, walls, all tests
# make check  lint, types, walls, fast tests
# make bench  what is timed, against what
# make mutants    deliberate faults, one at a time, and whether the tests nearest to each fail (an hour)
PYTHON ?= python3.11
ENV ?= .venv
BIN := $(ENV)/bin
FAST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" --numprocesses 2 --dist loadfile
STAMP := $(ENV)/.installed-$(shell cat requirements.txt constraints.txt | sha256sum | cut -c1-12)

.PHONY: env demo test check lint bench mutants
env: $(STAMP)

$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(ENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	rm -f $(ENV)/.installed-*
	touch $@

demo: env
	$(BIN)/python -m grid run experiments/demo.yaml
	$(BIN)/python -m analysis leaderboard --experiment demo
	$(BIN)/python -m analysis ablation demo --method seg_mil_cbm --parameter segmenter.name
	$(BIN)/python -m analysis ablation demo --method seg_mil_cbm --parameter rho_max
	$(BIN)/python -m analysis report demo

lint: env
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(FAST)

test: lint
	$(FAST)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m slow tests/components  # no clusters there
	$(BIN)/python -m pytest -q -m slow --ignore tests/components

bench: env
	$(BIN)/python -m benchmarks

mutants: env
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants.score
