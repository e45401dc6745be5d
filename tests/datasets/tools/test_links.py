"""--check-links: what every address answers, and whether each data set can still be had."""

from pathlib import Path

import pytest
import yaml

from clipfit.io.places import FilePlace
from clipfit.published import OPENAI_SHA256
from datasets.tools import known, links, prepare
from datasets.tools.sources import Candidate, Source

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def checked(server, sources):
    """A data set of images with two addresses, a split with one, and an optional file with one."""
    server.files |= {"a": b"images", "b": b"images", "split": b"split", "lists": b"lists"}

    def source(file, *urls, size=0, **more):
        candidates = tuple(Candidate(file, FilePlace(server.url(url), size=size)) for url in urls)
        return Source(file, candidates, **more)

    images = source("a.zip", "a", "b", size=6, gives=("images",))
    sources("dtd", images, source("split.json", "split"), source("l", "lists", optional=True))


def status():
    return prepare.main(["dtd", "--check-links"])


def test_status_and_size_of_every_address_are_shown(checked, server, capsys):
    server.files["b"] = b"another"
    del server.files["lists"]
    assert status() == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(row[1], row[2].strip(","), row[-1]) for row in table[2:]] == [
        ("a.zip", "200", server.url("a")),
        ("a.zip", "200", server.url("b")),
        ("split.json", "200", server.url("split")),
        ("l", "HTTP", server.url("lists")),
    ]
    assert table[2][3] == "6" and table[3][2:6] == ["200,", "another", "size", "7"]
    assert set(server.methods) == {"HEAD"}


@pytest.mark.parametrize("fault", [404, 503, "wrong size"])
def test_a_part_that_no_address_gives_is_a_failure(fault, checked, server, capsys):
    for path in ("a", "b"):
        if fault == "wrong size":
            server.files[path] = b"x"
        else:
            server.faults[path] = fault
    assert status() == 1
    assert capsys.readouterr().out.endswith("\ndtd: no address gives images\n")


def test_weights_without_a_host_are_a_failure(server, capsys):
    server.files["ViT-B-32.pt"] = b"weights"
    alive, dead = FilePlace(server.url("ViT-B-32.pt")), FilePlace(server.url("gone"))
    assert links.report([], {"ViT-B-32.pt": [dead, alive]}) == 0
    assert links.report([], {"ViT-B-32.pt": [alive], "RN50.pt": [dead]}) == 1
    assert capsys.readouterr().out.endswith("\nweights: no address gives RN50.pt\n")


def test_without_a_name_all_data_sets_and_weights_are_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(links, "report", lambda entries, weights: asked.append((entries, weights)) or 0)
    assert prepare.main(["--check-links"]) == 0
    ((entries, weights),) = asked
    assert entries == known.entries() and len(weights) == len(OPENAI_SHA256)
    with pytest.raises(SystemExit, match="2"):
        prepare.main([])


def test_every_address_is_asked_once(checked, server):
    entry = known.find("dtd")
    links.report([entry, entry], {})
    assert len(server.paths) == len(set(server.paths)) == 4


def test_a_workflow_asks_every_week_and_make_test_never():
    workflow = yaml.safe_load((PROJECT / ".github/workflows/links.yml").read_text())
    (line,) = [one["cron"] for one in workflow[True]["schedule"]]  # YAML 1.1 reads `on` as true
    assert len(line.split()) == 5 and line.split()[4] != "*"
    commands = [step.get("run", "") for step in workflow["jobs"]["links"]["steps"]]
    assert "python -m datasets.prepare --check-links" in commands
    assert "check-links" not in (PROJECT / "Makefile").read_text()
