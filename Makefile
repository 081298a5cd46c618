PY ?= python3
BIN := .venv/bin
# uv does not read pip's settings: hand it the wheel folder that pip was told of, if any
export UV_FIND_LINKS ?= $(or $(PIP_FIND_LINKS),$(shell $(PY) -m pip config get global.find-links 2>/dev/null))

# the extras that tests run; the others are named by their sentences only
TESTED := movies,tracking,studio,export,napari,dask

.PHONY: setup demo test test-all pytest fuzz stress lint docs dist audit constraints clean

setup: .venv/ready

# cytoforge and its page
.venv/core: pyproject.toml constraints.txt
	$(PY) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[studio]'
	touch $@

# what checks need besides
.venv/ready: .venv/core
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt --group dev -e '.[$(TESTED)]'
	touch $@

demo: .venv/core
	$(BIN)/cytoforge demo

# the tests beside mypy, which keeps a core busy for a minute
test: setup
	$(MAKE) -j 2 lint pytest

# the slow ones too, which everyday changes do not break
test-all: setup
	$(MAKE) -j 2 lint pytest MARKED='-m ""'

# A worker computes on one core: threads that wait for each other on busy cores multiply the time.
pytest: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(MARKED)

# A minute for each reader; make fuzz SECONDS=600 READERS="tiff COCO" for some of them, and longer.
fuzz: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt --group fuzz
	$(BIN)/python tests/fuzz/fuzz.py $(READERS) --seconds $(or $(SECONDS),60)

# Kills, damaged files and long use; full disks and the other faults of the system, which need root.
stress: setup
	$(BIN)/python tests/stress/kills.py --kills $(or $(KILLS),200)
	$(BIN)/python tests/stress/damage.py
	$(BIN)/python tests/stress/soak.py --minutes $(or $(MINUTES),10)
	test "$$(id -u)" != 0 || $(BIN)/python tests/stress/faults.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/sphinx-build --quiet --fail-on-warning docs docs/_build

# Wheel and sdist: built, looked through, each installed into an environment of its own, and used there.
dist: .venv/core
	rm -rf dist
	$(BIN)/uv build --quiet
	$(BIN)/python tests/dist.py dist

# Known weaknesses and licences of what is needed, and dist/sbom.json; asks PyPI.
audit: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt --group audit
	$(BIN)/python tests/audit.py dist

# Resolve anew, naming no host and no path; torch stays where it was tested.
constraints: setup
	env -u UV_FIND_LINKS sh -c 'echo "torch==2.13.0" | $(BIN)/uv pip compile -c - --universal --group dev --all-extras \
	    --no-annotate --no-header pyproject.toml -o constraints.txt'

clean:
	rm -rf .venv dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
