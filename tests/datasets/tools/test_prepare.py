"""Preparing a data set from a server on this machine, and from what lies there already."""

import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from clipfit.io import downloads
from clipfit.io.downloads import NoRoomError
from clipfit.io.places import FilePlace
from datasets.tools import bring, known, mirrors, prepare, unpack
from datasets.tools.mirrors import Consent
from datasets.tools.sources import Candidate, Source
from tests.datasets.tools.making import SPLIT, files_below, folder_of, md5, tar_of, zip_of
from tests.web import patience_for

EUROSAT = zip_of({"2750/River/River_1.jpg": b"image", "2750/Forest/Forest_1.jpg": b"image"})


def eurosat(server, **changes):
    place = FilePlace(server.url("EuroSAT.zip"), checksum=md5(EUROSAT), size=len(EUROSAT))
    candidate = Candidate("EuroSAT.zip", place, take="2750", to="2750")
    known_of_it = {"checksum": place.checksum, "size": place.size, "take": "2750", "to": "2750"}
    return Source("EuroSAT.zip", (candidate,), gives=("2750",), **{**known_of_it, **changes})


def plain(file, *urls, checksum="", **more):
    """A source that is used as it is."""
    candidates = tuple(Candidate(file, FilePlace(url, checksum=checksum)) for url in urls)
    return Source(file, candidates, checksum=checksum, **more)


def origins(folder):
    return json.loads((folder / "SOURCES.json").read_text())["files"]


def test_a_data_set_is_downloaded_unpacked_and_examined_once(server, sources, tmp_path, capsys):
    server.files["EuroSAT.zip"] = EUROSAT
    sources("eurosat", eurosat(server))
    assert prepare.main(["eurosat", "--root", str(tmp_path)]) == 1  # two images are not EuroSAT
    out = capsys.readouterr().out
    assert out.startswith("EuroSAT; terms: MIT\n")
    assert "EuroSAT.zip: downloaded" in out and f"EuroSAT, {tmp_path / 'eurosat'}" in out
    assert files_below(tmp_path / "eurosat/2750") == ["Forest/Forest_1.jpg", "River/River_1.jpg"]

    (tmp_path / "eurosat/2750/River/River_1.jpg").write_bytes(b"mine")
    prepare.main(["eurosat", "--root", str(tmp_path)])
    assert "there already: 2750" in capsys.readouterr().out
    assert len(server.asked) == 1
    assert (tmp_path / "eurosat/2750/River/River_1.jpg").read_bytes() == b"mine"


FAULTS = (404, 503, "tls", "cut", "html", "slow", "wrong bytes", "redirect", "no ranges", "range refused")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["archive", "bundle", "plain file"])
def test_every_kind_of_source_survives_every_fault(kind, fault, server, tls, sources, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "PATIENCE", patience_for(fault))
    content = {"archive": EUROSAT, "bundle": zip_of({"e/2750/a/1.jpg": b"x", "e/split.json": SPLIT})}
    content = content.get(kind, SPLIT)
    server.files |= {"bad": content[::-1] if fault == "wrong bytes" else content, "good": content}
    server.faults["bad"] = fault
    server.moved = {"bad": "good"} if fault == "redirect" else {}
    server.break_after = [len(content) // 2] if fault in ("no ranges", "range refused") else []
    bad = tls.url("bad") if fault == "tls" else server.url("bad")
    gives = ("split.json",) if kind == "plain file" else ("2750",)
    one = {"take": "2750", "to": "2750"} if kind == "archive" else {}
    one |= {"bundle": ("2750", "split.json")} if kind == "bundle" else {}
    file = "split.json" if kind == "plain file" else "file.zip"
    candidates = tuple(
        Candidate(file, FilePlace(url, checksum=md5(content)), **one) for url in (bad, server.url("good"))
    )
    source = Source(file, candidates, gives=() if kind == "plain file" else gives, checksum=md5(content))
    assert bring.prepare(sources("eurosat", source), tmp_path) == []
    assert all((tmp_path / "eurosat" / result).exists() for result in gives)
    origin = origins(tmp_path / "eurosat")[file]
    assert origin["digest"] == f"md5:{md5(content)}"
    passes = ("cut", "redirect", "no ranges", "range refused")  # the first place gives the file all the same
    assert origin["from"] == (bad if fault in passes else server.url("good"))


def test_drive_is_asked_where_https_fails(server, sources, tmp_path, monkeypatch):
    def give(id, output, resume):
        Path(output).write_bytes(SPLIT)
        return output

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=give))
    split = plain("split.json", server.url("gone"), checksum=md5(SPLIT))
    drive = Candidate("split.json", FilePlace(drive="some-id", checksum=md5(SPLIT)))
    entry = sources("eurosat", replace(split, candidates=(*split.candidates, drive)))
    assert bring.prepare(entry, tmp_path) == []
    origin = origins(tmp_path / "eurosat")["split.json"]
    assert origin["from"] == "https://drive.google.com/file/d/some-id/view"


def test_where_nothing_works_each_candidate_is_named_with_what_happened(server, sources, tmp_path, capsys):
    source = eurosat(server, by_hand="ask its author")
    spare = replace(source.candidates[0], place=FilePlace(server.url("spare"), checksum=md5(EUROSAT)))
    server.faults["spare"] = "html"
    sources("eurosat", replace(source, candidates=(*source.candidates, spare)))
    assert prepare.main(["eurosat", "--root", str(tmp_path)]) == 1
    assert (
        f"  EuroSAT.zip\n      {server.url('EuroSAT.zip')}: HTTP Error 404 (Not Found)\n"
        f"      {server.url('spare')}: it answers with a web page instead of the file\n      ask its author\n"
    ) in capsys.readouterr().out


def test_a_login_is_asked_for_by_file_name_and_the_file_accepted(sources, tmp_path, capsys):
    source = Source(
        "cars.tgz", gives=("cars_train",), take="cars_train", to="cars_train", by_hand="log in at x"
    )
    sources("stanford_cars", source)
    command = ["stanford_cars", "--root", str(tmp_path)]
    assert prepare.main(command) == 1
    out = capsys.readouterr().out
    assert (
        f"To be put there by hand, into {tmp_path / 'stanford_cars'}:\n  cars.tgz\n      log in at x\n" in out
    )
    assert out.endswith(f"python -m datasets.prepare stanford_cars --root {tmp_path}\n")
    assert "--mirror" not in out

    (tmp_path / "stanford_cars/cars.tgz").write_bytes(tar_of(folder_of("somewhere/cars_train", "1.jpg")))
    prepare.main(command)
    assert "To be put there" not in capsys.readouterr().out
    assert (tmp_path / "stanford_cars/cars_train/1.jpg").is_file()


# What lies there already


def test_a_file_that_is_not_the_published_one_is_said_before_anything_is_fetched(server, sources, tmp_path):
    entry = sources("eurosat", plain("split.json", server.url("split")), eurosat(server))
    (tmp_path / "eurosat").mkdir()
    archive = tmp_path / "eurosat/EuroSAT.zip"
    archive.write_bytes(b"another file")
    right = f"EuroSAT.zip .{len(EUROSAT)} bytes, md5 {md5(EUROSAT)}."
    told = f"it has 12 bytes, and is none of {right}; replace it"
    with pytest.raises(ValueError, match=f"is not the published file: {told}, or unpack it yourself"):
        bring.prepare(entry, tmp_path)
    assert server.asked == [] and archive.read_bytes() == b"another file"
    archive.write_bytes(EUROSAT)
    server.files["split"] = SPLIT
    assert bring.prepare(entry, tmp_path) == []
    assert server.paths == ["split"]


def test_an_archive_of_another_name_that_is_not_known_is_mentioned(server, sources, tmp_path, capsys):
    server.files["EuroSAT.zip"] = EUROSAT
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat/from_a_friend.zip").write_bytes(b"x" * 5)
    bring.prepare(sources("eurosat", eurosat(server)), tmp_path)
    said = capsys.readouterr().out
    assert "from_a_friend.zip is not used: it has 5 bytes, and is none of EuroSAT.zip (" in said
    assert said.index("from_a_friend") < said.index("downloaded")


def test_a_file_in_the_data_root_that_only_has_the_name_is_mentioned(server, sources, tmp_path, capsys):
    server.files["EuroSAT.zip"] = EUROSAT
    for name in ("EuroSAT.zip", "of_another_data_set.zip"):
        (tmp_path / name).write_bytes(b"x" * 5)
    bring.prepare(sources("eurosat", eurosat(server)), tmp_path)
    said = capsys.readouterr().out
    assert f"{tmp_path / 'EuroSAT.zip'} is not used: it has 5 bytes" in said and "of_another" not in said
    assert (tmp_path / "EuroSAT.zip").read_bytes() == b"x" * 5


def test_only_files_of_a_fitting_size_are_read(server, sources, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("datasets.tools.brought.digest_of", lambda path, like: read.append(path.name) or "")
    server.files["EuroSAT.zip"] = EUROSAT
    (tmp_path / "another data set.zip").write_bytes(b"x" * (len(EUROSAT) + 1))
    (tmp_path / "perhaps").write_bytes(b"x" * len(EUROSAT))
    bring.prepare(sources("eurosat", eurosat(server)), tmp_path)
    assert read == ["perhaps"]


@pytest.mark.parametrize(
    ("name", "unpacked", "result"),
    [
        ("eurosat", "EuroSAT_RGB/River/1.jpg", "2750/River/1.jpg"),
        ("eurosat", "eurosat/EuroSAT_RGB/River/1.jpg", "2750/River/1.jpg"),
        ("stanford_cars", "cars_train/1.jpg", "cars_train/1.jpg"),
        ("stanford_cars", "stanford-cars/cars_train/1.jpg", "cars_train/1.jpg"),
        ("stanford_cars", "cars_train/cars_train/1.jpg", "cars_train/1.jpg"),
        ("stanford_cars", "stanford_cars/stanford_cars/cars_train/1.jpg", "cars_train/1.jpg"),
        ("sun397", "SUN397/a/abbey/1.jpg", "SUN397/a/abbey/1.jpg"),
        ("food101", "food101/images/a/1.jpg", "images/a/1.jpg"),
        ("oxford_pets", "oxford-iiit-pet/images/1.jpg", "images/1.jpg"),
        ("oxford_flowers", "flowers-102/jpg/1.jpg", "jpg/1.jpg"),
        ("dtd", "dtd-r1.0.1/dtd/images/a/1.jpg", "images/a/1.jpg"),
        ("ucf101", "UCF-101-midframes/A/1.jpg", "UCF-101-midframes/A/1.jpg"),
        ("imagenetv2", "imagenetv2-matched-frequency-format-val/0/1.jpeg", None),
        ("imagenet_sketch", "sketch/n01/1.JPEG", "images/n01/1.JPEG"),
        ("imagenet_a", "imagenet-a/n01/1.jpg", "imagenet-a/n01/1.jpg"),
        ("caltech101", "101_ObjectCategories/a/1.jpg", "101_ObjectCategories/a/1.jpg"),
    ],
)
def test_what_was_unpacked_elsewhere_is_linked_and_stays(name, unpacked, result, sources, tmp_path):
    source = known.find(name).sources[0]
    unreachable = tuple(replace(one, place=FilePlace()) for one in source.candidates)
    entry = sources(name, source := replace(source, candidates=unreachable))
    (tmp_path / unpacked).parent.mkdir(parents=True)
    (tmp_path / unpacked).write_bytes(b"photo")
    assert bring.prepare(entry, tmp_path) == []
    assert (tmp_path / entry.folder / (result or unpacked)).read_bytes() == b"photo"
    assert (tmp_path / unpacked).is_file()
    assert origins(tmp_path / entry.folder)[source.file]["from"].startswith("found in ")


def test_aircraft_unpacked_in_the_data_root_are_linked_file_by_file(sources, tmp_path):
    entry = sources("fgvc_aircraft", known.find("fgvc_aircraft").sources[0])
    for result in entry.sources[0].gives:
        path = tmp_path / "fgvc-aircraft-2013b/data" / result
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"") if result.endswith(".txt") else path.mkdir()
    assert bring.prepare(entry, tmp_path) == []
    assert {path.name for path in (tmp_path / "fgvc_aircraft").iterdir()} >= set(entry.sources[0].gives)


@pytest.mark.parametrize("name", ["images", "annotations", "data"])
def test_a_folder_that_may_be_anybodys_is_left_alone(name, sources, tmp_path):
    unlinked = [replace(one, candidates=()) for one in known.find("oxford_pets").sources]
    entry = sources("oxford_pets", *unlinked)
    (tmp_path / name).mkdir()
    tasks = bring.prepare(entry, tmp_path)
    assert {source.file for source, _ in tasks} >= {"images.tar.gz"}
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_split_found_elsewhere_is_taken_only_if_it_is_coops(sources, tmp_path):
    entry = sources("eurosat", plain("split.json", checksum=md5(SPLIT), by_hand="y"))
    (tmp_path / "EuroSAT").mkdir()
    (tmp_path / "EuroSAT/split.json").write_bytes(b"mine")
    assert [source.file for source, _ in bring.prepare(entry, tmp_path)] == ["split.json"]
    (tmp_path / "EuroSAT/split.json").write_bytes(SPLIT)
    assert bring.prepare(entry, tmp_path) == []
    assert (tmp_path / "eurosat/split.json").read_bytes() == SPLIT


def test_the_publishers_archive_is_not_taken_for_a_bundle_of_the_same_name(server, sources, tmp_path):
    """caltech-101.zip is the name of both."""
    publishers = zip_of({"c/in.tar": tar_of(folder_of("images"))})
    place = FilePlace(checksum=md5(publishers), size=len(publishers))
    bundle = Candidate("c.zip", FilePlace(server.url("bundle")), bundle=("images", "split.json"))
    inner = {"take": "images", "to": "images", "inner": "in.tar"}
    images = Source("c.zip", (bundle,), place.checksum, place.size, gives=("images",), **inner)
    split = Source("split.json", (bundle,))
    (tmp_path / "caltech-101").mkdir()
    (tmp_path / "caltech-101/c.zip").write_bytes(publishers)
    server.files["bundle"] = zip_of({"split.json": SPLIT})
    ((source, reason),) = bring.prepare(sources("caltech101", images, split), tmp_path)
    assert source == split and "c.zip lies there and does not give it" in reason
    assert (tmp_path / "caltech-101/images/a/1.jpg").is_file()
    assert (tmp_path / "caltech-101/c.zip").read_bytes() == publishers


def test_a_bundles_split_that_is_not_coops_is_left_out(server, sources, tmp_path, capsys):
    server.files |= {"bundle": zip_of({"images/1.jpg": b"", "split.json": b"changed"}), "split": SPLIT}
    bundle = Candidate("b.zip", FilePlace(server.url("bundle")), bundle=("images", "split.json"))
    split = plain("split.json", server.url("split"), checksum=md5(SPLIT))
    entry = sources("dtd", Source("a.zip", (bundle,), gives=("images",)), split)
    assert bring.prepare(entry, tmp_path) == []
    assert "b.zip: split.json is left out" in capsys.readouterr().out
    assert (tmp_path / "dtd/split.json").read_bytes() == SPLIT


@pytest.mark.parametrize("content", [{"images/1": b""}, {"images/1": b"", "split.json": b"changed"}])
@pytest.mark.parametrize("images", ["missing", "there"])
def test_a_bundle_by_hand_without_coops_split_leaves_the_split_to_others(
    images, content, server, sources, tmp_path
):
    server.files["split"] = SPLIT
    (tmp_path / "b.zip").write_bytes(zip_of(content))
    bundle = Candidate("b.zip", FilePlace(server.url("gone")), bundle=("images", "split.json"))
    split = plain("split.json", server.url("split"), checksum=md5(SPLIT))
    split = replace(split, candidates=(*split.candidates, bundle))
    if images == "there":
        (tmp_path / "dtd/images").mkdir(parents=True)
    assert bring.prepare(sources("dtd", Source("a.zip", (bundle,), gives=("images",)), split), tmp_path) == []
    assert server.paths == ["split"] and (tmp_path / "dtd/split.json").read_bytes() == SPLIT


# Copies by third parties


def mirrored(server, sources):
    server.files["EuroSAT.zip"] = EUROSAT
    source = eurosat(server)
    return sources(
        "eurosat", replace(source, candidates=(replace(source.candidates[0], mirror="by a friend"),))
    )


@pytest.mark.parametrize(("answer", "fetched"), [("y", True), ("YES ", True), ("", False), ("n", False)])
def test_a_person_at_a_terminal_is_asked(answer, fetched, server, sources, tmp_path, capsys):
    entry = mirrored(server, sources)
    questions = []
    tasks = bring.prepare(entry, tmp_path, Consent(entry, ask=lambda text: questions.append(text) or answer))
    said = capsys.readouterr().out
    assert f"EuroSAT.zip is no file of the publisher's: by a friend\n  {server.url('EuroSAT.zip')}" in said
    assert "terms: MIT" in said and questions == ["Fetch it? [y/N] "]
    assert (tasks == []) == fetched == (server.paths == ["EuroSAT.zip"])


def test_where_nobody_can_be_asked_nothing_is_fetched_without_the_flag(server, sources, tmp_path, capsys):
    mirrored(server, sources)
    command = ["eurosat", "--root", str(tmp_path)]
    assert mirrors.terminal() is None
    assert prepare.main(command) == 1 and server.asked == []
    said = capsys.readouterr().out
    assert "by a friend; --mirror fetches it" in said
    assert said.endswith(f"python -m datasets.prepare eurosat --root {tmp_path} --mirror\n")
    prepare.main([*command, "--mirror"])
    assert server.paths == ["EuroSAT.zip"]
    assert origins(tmp_path / "eurosat")["EuroSAT.zip"]["mirror"] == "by a friend"


# Room


def test_the_room_that_is_needed_is_said_before_the_start(server, sources, tmp_path, monkeypatch, capsys):
    size = 39_000_000_000
    entry = sources("sun397", *(one for one in known.find("sun397").sources if one.file == "SUN397.tar.gz"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2 * size))
    with pytest.raises(
        NoRoomError, match=r"78.2 GB do not fit into .*sun397; make room or choose another --root"
    ):
        bring.prepare(entry, tmp_path)
    said = capsys.readouterr().out
    assert "SUN397 needs about 78.2 GB: 39.1 GB to download, 39.1 GB unpacked; 78.0 GB are free" in said


def test_an_archive_that_lies_there_needs_room_for_its_content_only(server, sources, tmp_path, capsys):
    (tmp_path / "EuroSAT.zip").write_bytes(EUROSAT)
    bring.prepare(sources("eurosat", eurosat(server)), tmp_path)
    assert ": 0.0 MB to download" in capsys.readouterr().out


def test_archives_are_removed_when_they_are_asked_to_be(server, sources, tmp_path):
    server.files |= {"EuroSAT.zip": EUROSAT, "split": SPLIT}
    entry = sources("eurosat", eurosat(server), plain("split.json", server.url("split")))
    bring.prepare(entry, tmp_path)
    assert (tmp_path / "eurosat/EuroSAT.zip").is_file()
    (tmp_path / "eurosat/mine.zip").write_bytes(b"mine")
    bring.prepare(entry, tmp_path, remove_archives=True)
    assert {path.name for path in (tmp_path / "eurosat").iterdir() if not path.name.startswith(".")} == {
        *("2750", "split.json", "mine.zip", "SOURCES.json")
    }


def test_an_archive_is_kept_where_it_could_not_be_unpacked(server, sources, tmp_path):
    entry = sources("eurosat", Source("a.tar", gives=("2750",), take="2750", to="2750"))
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat/a.tar").write_bytes(
        tar_of({"2750/a/1.jpg": b"x", "2750/a/2": b"x" * 20_000}, "w")[:9000]
    )
    with pytest.raises(ValueError, match="damaged or cut off"):
        bring.prepare(entry, tmp_path, remove_archives=True)
    assert [path.name for path in (tmp_path / "eurosat").iterdir() if not path.name.startswith(".p")] == [
        "a.tar"
    ]


# Where files came from


def test_where_each_file_came_from_is_written_beside_it(server, sources, tmp_path):
    server.files |= {"split": SPLIT}
    (tmp_path / "named otherwise").write_bytes(EUROSAT)
    entry = sources("eurosat", eurosat(server), plain("split.json", server.url("split")), plain("found.txt"))
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat/found.txt").write_bytes(b"")
    for _ in range(2):  # the second time, all is there: what is noted stays
        bring.prepare(entry, tmp_path)
        noted = origins(tmp_path / "eurosat")
        assert {file: (origin["from"], origin["gives"]) for file, origin in noted.items()} == {
            "named otherwise": ("brought by hand as named otherwise", ["2750"]),
            "split.json": (server.url("split"), ["split.json"]),
            "found.txt": ("found in place", ["found.txt"]),
        }
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert noted["found.txt"]["digest"] == f"sha256:{empty}"
    assert noted["named otherwise"]["digest"] == f"md5:{md5(EUROSAT)}"
    assert all(len(origin["date"]) == 10 for origin in noted.values())


# Layouts


def test_annotations_are_fetched_only_where_the_split_is_missing(server, sources, tmp_path):
    server.files |= {"split": b"{}", "labels": b"x"}
    split = plain("split_zhou_OxfordFlowers.json", server.url("split"))
    labels = plain("imagelabels.mat", server.url("labels"), optional=True)
    entry = sources("oxford_flowers", labels, split)
    assert bring.prepare(entry, tmp_path / "with") == []
    assert not (tmp_path / "with/oxford_flowers/imagelabels.mat").exists()

    del server.files["split"]
    assert [source for source, _ in bring.prepare(entry, tmp_path / "without")] == [split]
    assert (tmp_path / "without/oxford_flowers/imagelabels.mat").is_file()


def test_an_inner_archive_that_was_unpacked_by_hand_is_used(sources, tmp_path):
    source = replace(known.find("caltech101").sources[0], candidates=())
    (tmp_path / "caltech-101").mkdir()
    (tmp_path / "caltech-101" / source.inner).write_bytes(tar_of(folder_of("101_ObjectCategories")))
    assert bring.prepare(sources("caltech101", source), tmp_path) == []
    assert files_below(tmp_path / "caltech-101/101_ObjectCategories") == ["a/1.jpg"]


@pytest.mark.parametrize("place", ["imagenet", "."])
def test_imagenets_three_archives_become_class_folders(place, sources, tmp_path):
    folder, brought = tmp_path / "imagenet", tmp_path / place
    folder.mkdir()
    published = [source for source in known.find("imagenet").sources if source.file.endswith((".tar", ".gz"))]
    entry = sources("imagenet", *(replace(source, checksum="", size=0) for source in published))
    assert [source.file for source, _ in bring.prepare(entry, tmp_path)] == [s.file for s in published]

    kind = [("ILSVRC2012_ID", object), ("WNID", object)]
    rows = [(np.array([[1]]), "n02"), (np.array([[2]]), "n01")]
    savemat(tmp_path / "meta.mat", {"synsets": np.array(rows, dtype=kind)})
    data = "ILSVRC2012_devkit_t12/data"
    train = {f"{wnid}.tar": tar_of({f"{wnid}_1.JPEG": b"x"}, "w") for wnid in ("n01", "n02")}
    val = {f"ILSVRC2012_val_{number}.JPEG": b"x" for number in (2, 1, 3)}
    (brought / "ILSVRC2012_img_train.tar").write_bytes(tar_of(train, "w"))
    (brought / "ILSVRC2012_img_val.tar").write_bytes(tar_of(val, "w"))
    (brought / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(
        tar_of(
            {
                f"{data}/meta.mat": (tmp_path / "meta.mat").read_bytes(),
                f"{data}/ILSVRC2012_validation_ground_truth.txt": b"1\n2\n1\n",
            }
        )
    )
    assert bring.prepare(entry, tmp_path) == []
    assert files_below(folder / "images") == [
        "train/n01/n01_1.JPEG",
        "train/n02/n02_1.JPEG",
        "val/n01/ILSVRC2012_val_2.JPEG",
        "val/n02/ILSVRC2012_val_1.JPEG",
        "val/n02/ILSVRC2012_val_3.JPEG",
    ]


def test_the_embedded_data_are_drawn(tmp_path, capsys):
    assert prepare.main(["demo_signs", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("all is well\n")


def test_every_source_leads_somewhere():
    for entry in known.entries():
        if entry.drawn:
            continue
        assert entry.terms
        for source in entry.sources:
            assert source.candidates or source.by_hand, (entry.name, source.file)
            assert source.unpack in {*unpack.WAYS, "keep"}
        given = {result for source in entry.sources for result in source.results}
        assert {*entry.images, *entry.files} | ({entry.split} if entry.split else set()) <= given


def test_all_nine_splits_are_had_over_https_first_and_checked():
    splits = [one for entry in known.entries() for one in entry.checked_sources if one.file == entry.split]
    published = [one for one in splits if one.file.startswith("split_zhou_")]
    assert len(published) == 9
    for split in published:
        assert len(split.checksum) in (40, 64)
        plain_files = [one for one in split.candidates if not one.bundle]
        assert plain_files[0].place.url.startswith("https://") and plain_files[-1].place.drive
        assert {one.place.checksum for one in plain_files} == {split.checksum}
