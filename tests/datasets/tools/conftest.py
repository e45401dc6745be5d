"""A server, and data sets whose files it has."""

from dataclasses import replace

import pytest

from clipfit.io import downloads
from datasets.tools import known
from tests.web import EAGER


@pytest.fixture
def server(server, monkeypatch):
    """One whose faults nobody waits for."""
    monkeypatch.setattr(downloads, "PATIENCE", EAGER)
    return server


@pytest.fixture
def sources(monkeypatch):
    """Replace the sources of a data set."""

    def replace_sources(name, *sources):
        changed = replace(known.find(name), sources=sources)
        entries = tuple(changed if entry.name == name else entry for entry in known.entries())
        monkeypatch.setattr(known, "entries", lambda: entries)
        monkeypatch.setattr(known, "published", lambda: {})
        return changed

    return replace_sources
