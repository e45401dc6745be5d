# make demo: zero-shot CLIP against CLIPFit on the embedded data    make test: the test suite
PYTHON ?= python3
READY = .venv/requirements.installed

.PHONY: demo test lint

demo: $(READY)
	@bash scripts/demo/run.sh

test: $(READY)
	@.venv/bin/python -m pytest

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

$(READY): requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
