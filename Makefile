# make demo    the main job on the embedded model, nothing to download
# make test    lint, types and tests
# make setup   the environment in .venv alone
# make test-lmms-eval   the lmms-eval plug-in, in an environment of its own: .venv-lmms-eval
# make test-transformers-next   the tests with the newest transformers that is supported: .venv-transformers-next
# make test-lowest   the tests with the lowest version of each package that pyproject.toml allows: .venv-lowest
# make test-wheel    source archive and wheel, built, and tried in an environment that has nothing else: .venv-wheel
# make docs          the site in site/, every warning an error

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LMMS_EVAL_VENV := .venv-lmms-eval
TRANSFORMERS_NEXT := 5.24.0
TRANSFORMERS_NEXT_VENV := .venv-transformers-next
LOWEST_VENV := .venv-lowest
WHEEL_VENV := .venv-wheel
EXTRAS := plots,bench,smolvlm,eval,witness,ray,serve
# Some tests wait, for cameras, sockets and other processes: so there are more of them at once than cores.
WORKERS := $(shell $(PYTHON) -c 'import os; print(max(2, 3 * (os.cpu_count() or 1) // 2))')
export HF_HUB_OFFLINE := 1

.PHONY: setup demo test test-lmms-eval test-transformers-next test-lowest test-wheel lint docs bench clean

setup: $(VENV)/.done

# Made again whenever what it is made of changes; a half-made one is not taken for whole.
$(VENV)/.done: Makefile pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]" --group dev
	touch $@

demo: setup
	$(BIN)/infinipot demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python tests/needs.py
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

test-lmms-eval: $(LMMS_EVAL_VENV)/.done
	$(LMMS_EVAL_VENV)/bin/python -m pytest tests/lmms_eval

$(LMMS_EVAL_VENV)/.done: Makefile pyproject.toml tests/lmms_eval/constraints.txt
	$(PYTHON) -m venv $(LMMS_EVAL_VENV)
	$(LMMS_EVAL_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(LMMS_EVAL_VENV)/bin/python -m pip install --quiet --constraint tests/lmms_eval/constraints.txt --editable ".[lmms-eval]" pytest hypothesis
	touch $@

test-transformers-next: $(TRANSFORMERS_NEXT_VENV)/.done
	$(TRANSFORMERS_NEXT_VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal

# The versions of constraints.txt, but for transformers.
$(TRANSFORMERS_NEXT_VENV)/.done: Makefile pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TRANSFORMERS_NEXT_VENV)
	sed 's/^transformers==.*/transformers==$(TRANSFORMERS_NEXT)/' constraints.txt > $(TRANSFORMERS_NEXT_VENV)/constraints.txt
	$(TRANSFORMERS_NEXT_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(TRANSFORMERS_NEXT_VENV)/bin/python -m pip install --quiet --constraint $(TRANSFORMERS_NEXT_VENV)/constraints.txt --editable ".[$(EXTRAS)]" --group dev
	touch $@

test-lowest: $(LOWEST_VENV)/.done
	$(LOWEST_VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal

$(LOWEST_VENV)/.done: Makefile pyproject.toml constraints.txt tests/lowest.py
	$(PYTHON) -m venv $(LOWEST_VENV)
	$(PYTHON) tests/lowest.py > $(LOWEST_VENV)/constraints.txt
	$(LOWEST_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(LOWEST_VENV)/bin/python -m pip install --quiet --constraint $(LOWEST_VENV)/constraints.txt --editable ".[$(EXTRAS)]" --group dev
	touch $@

# The wheel is made from the source archive, so what one of them lacks is seen.
# A new environment each time: what is there already would hide what the wheel does not ask for.
test-wheel: setup
	rm -rf $(WHEEL_VENV) dist
	$(BIN)/python -m build --outdir dist . > /dev/null
	$(PYTHON) -m venv $(WHEEL_VENV)
	$(WHEEL_VENV)/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	$(WHEEL_VENV)/bin/python tests/wheel/check.py dist/*.whl

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup
	$(BIN)/python perf/compression.py
	$(BIN)/python perf/endless.py
	$(BIN)/infinipot bench needle

clean:
	rm -rf $(VENV) $(LMMS_EVAL_VENV) $(TRANSFORMERS_NEXT_VENV) $(LOWEST_VENV) $(WHEEL_VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
