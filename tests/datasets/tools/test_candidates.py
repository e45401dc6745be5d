"""Every data set from its first candidate, from its last, and from the popular archive that a user has."""

import json

import pytest

from datasets.tools import known, prepare
from tests.datasets.tools.making import PUBLISHED, bundle_of, files_below, in_small

LINKED = [entry.name for entry in known.entries() if any(source.candidates for source in entry.sources)]
BUNDLED = [name for name in LINKED if known.find(name).sources[0].candidates[-1].bundle]


def wanted(entry):
    return {result for source in entry.sources if not source.optional for result in source.results}


def run(name, root, *flags):
    return prepare.main([name, "--root", str(root), *flags])


def test_all_data_sets_but_imagenet_have_links_and_a_bundle():
    published = {entry.name for entry in known.entries() if not entry.drawn}
    assert set(LINKED) == set(BUNDLED) == published - {"imagenet"} == set(PUBLISHED)


@pytest.mark.parametrize("name", LINKED)
def test_the_first_candidate_alone_gives_the_data_set(name, server, sources, tmp_path):
    entry = known.find(name)
    entry = sources(name, *in_small(entry, server, lambda n, _: n == 0))
    run(name, tmp_path, "--mirror")
    assert all((tmp_path / entry.folder / result).exists() for result in wanted(entry))
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob(".unpacking*"))
    assert set(server.paths) <= set(server.files)  # nothing else is asked
    assert len(server.paths) == len(set(server.paths))


@pytest.mark.parametrize("name", LINKED)
def test_the_last_candidate_alone_gives_the_data_set_after_a_yes(name, server, sources, tmp_path, capsys):
    entry = known.find(name)
    entry = sources(name, *in_small(entry, server, lambda n, count: n == count - 1))
    assert run(name, tmp_path) == 1
    said = capsys.readouterr().out
    assert "is no file of the publisher's: a copy in CoOp's layout by the author of PromptKD" in said
    assert f"terms: {entry.terms}" in said and "--mirror fetches it" in said
    assert not any(path.startswith("bundle") for path in server.paths)

    run(name, tmp_path, "--mirror")
    assert all((tmp_path / entry.folder / result).exists() for result in wanted(entry))
    assert (
        len([path for path in server.paths if path.startswith("bundle")]) == 1
    )  # gives all, is fetched once
    origins = json.loads((tmp_path / entry.folder / "SOURCES.json").read_text())["files"]
    (origin,) = [origin for origin in origins.values() if "mirror" in origin]
    assert origin["from"].startswith(server.url("bundle/"))
    assert set(origin["gives"]) >= wanted(entry)
    assert not list(tmp_path.rglob("*.pkl"))


@pytest.mark.parametrize("place", ["root", "folder"])
@pytest.mark.parametrize("name", BUNDLED)
def test_who_has_the_popular_archive_needs_no_network(name, place, server, sources, tmp_path, capsys):
    entry = known.find(name)
    entry = sources(name, *in_small(entry, server, lambda *_: False))
    bundle = entry.sources[0].candidates[-1]
    renamed = bundle.place.checksum or bundle.place.size  # else its name tells what it is
    folder = tmp_path if place == "root" else tmp_path / entry.folder
    folder.mkdir(exist_ok=True)
    archive = folder / ("my download.bin" if renamed else bundle.file)
    archive.write_bytes(bundle_of(entry, bundle))
    run(name, tmp_path)
    assert server.asked == []
    told = f"{archive} is {bundle.file}, by its {bundle.known_by}: used for {', '.join(bundle.bundle)}\n"
    assert told in capsys.readouterr().out
    assert all((tmp_path / entry.folder / result).exists() for result in wanted(entry))
    assert archive.is_file()


@pytest.mark.parametrize("name", PUBLISHED)
def test_who_has_the_publishers_files_needs_only_the_split(name, server, sources, tmp_path):
    entry = known.find(name)
    entry = sources(name, *in_small(entry, server, lambda n, _: n == 0))
    for file, content in list(PUBLISHED[name].items())[:2]:
        checked = [one for source in entry.sources for one in source.known_files if one.file == file]
        renamed = checked[0].place.size and checked[0].place.checksum
        (tmp_path / (f"renamed {file}" if renamed else file)).write_bytes(content)
    run(name, tmp_path)
    assert server.paths == ([f"0/{entry.split}"] if entry.split else [])
    assert all((tmp_path / entry.folder / result).exists() for result in wanted(entry))


def test_a_candidate_between_first_and_last_has_a_layout_of_its_own(server, sources, tmp_path):
    entry = known.find("eurosat")
    small = in_small(entry, server, lambda n, _: n == 2)  # EuroSAT_RGB.zip; the split from Drive's place
    sources("eurosat", *small)
    run("eurosat", tmp_path)
    assert files_below(tmp_path / "eurosat/2750") == ["b/2.jpg"]
