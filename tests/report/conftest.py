"""A browser to look at pages with, and run folders made by hand."""

import json
import shutil

import pytest
from sklearn.metrics import accuracy_score, f1_score

from dassl.predictions import writing

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "google-chrome", "chromium-browser")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip(f"no browser to open the page with: none of {', '.join(names)} is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def finished():
    """Make a run folder that holds these predictions and the result that belongs to them."""

    def make(folder, rows, classes, root="/data/pets", **changes):
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder, classes, str(root), len(rows)) as add:
            for row in rows:
                add(row)
        truth, said = [row.label for row in rows], [row.predicted for row in rows]
        result = {
            "trainer": "CLIPFit",
            "seed": 3,
            "total": len(rows),
            "correct": sum(row.right for row in rows),
            "accuracy": 100 * accuracy_score(truth, said),
            "error_rate": 100 - 100 * accuracy_score(truth, said),
            "macro_f1": 100 * f1_score(truth, said, labels=sorted(set(truth)), average="macro"),
        }
        (folder / "result.json").write_text(json.dumps(result | changes))
        return folder

    return make
