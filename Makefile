# make demo: zero-shot CLIP against CLIPFit on the embedded data
# make photos: a folder of pictures, from looking at it to a tested model
# make test: the quick tests    make test-all: all tests    make lint: the style
PYTHON ?= python3
INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check
READY = .venv/requirements.installed
DEV_READY = .venv/requirements-dev.installed

.PHONY: demo photos test test-all lint

demo: $(READY)
	@bash scripts/demo/run.sh

photos: $(READY)
	@bash scripts/demo/photos.sh

test: $(DEV_READY)
	@.venv/bin/python -m pytest -m "not slow"

test-all: $(DEV_READY)
	@.venv/bin/python -m pytest

lint: $(DEV_READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt
	$(INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

$(DEV_READY): $(READY) requirements-report.txt requirements-export.txt requirements-dev.txt
	$(INSTALL) -r requirements-dev.txt
	@touch $@
