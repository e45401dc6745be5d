"""The doctor on healthy and on broken folders of every layout; it only looks."""

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from clipfit.io.origins import note_origin
from datasets.tools import doctor, known, prepare
from datasets.tools.findings import WRONG

LAYOUTS = (
    "dtd_fewshot",
    "caltech101_nosplit",
    "eurosat_nosplit",
    "food101_nosplit",
    "oxford_flowers_nosplit",
    "oxford_pets_nosplit",
    "stanford_cars_nosplit",
    "sun397_nosplit",
    "ucf101_nosplit",
    "fgvc_aircraft",
    "imagenet",
    "imagenet_a",
    "imagenet_r",
    "imagenet_sketch",
)


def digest(entries, image_folder=""):
    lines = [path.removeprefix(image_folder) for path, _, _ in entries]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def whole_lists(example):
    """The lists of a worked example without few shots: those of a case, or of the split that it writes."""
    for case in example["cases"]:
        if case["num_shots"] < 1 and case["subsample_classes"] == "all":
            return {part: case[part] for part in ("train", "val", "test")}
        if "written_split" in case:
            return case["written_split"]["value"]


@pytest.fixture
def state(monkeypatch):
    """Let an entry stand for the one of its name."""

    def state(changed):
        entries = tuple(changed if entry.name == changed.name else entry for entry in known.entries())
        monkeypatch.setattr(known, "entries", lambda: entries)
        monkeypatch.setattr(doctor, "entries", lambda: entries)

    return state


@pytest.fixture
def fit(monkeypatch, state):
    """Let the facts state what a worked example holds, so that its small folder is the published one."""

    def fit(example):
        lists = whole_lists(example)
        entry = known.find(example["dataset"])
        counts = {part: len(lists[part]) if getattr(entry, part) else getattr(entry, part) for part in lists}
        classes = len({label for _, label, _ in lists["train"]})
        small = replace(entry, classes=classes, **counts)
        state(small)
        monkeypatch.setattr(known, "published", lambda: {})
        return small

    return fit


@pytest.fixture
def dtd(example, lay_out, fit, monkeypatch):
    """A healthy small DTD with published digests, taken from the worked example; returns the data root."""
    dtd = example("dtd_fewshot")
    root = lay_out(dtd)
    fit(dtd)
    cases = [c for c in dtd["cases"] if c["num_shots"] > 0 and c["subsample_classes"] == "all"]
    published = {
        "split_sha256": hashlib.sha256(
            (root / "dtd/split_zhou_DescribableTextures.json").read_bytes()
        ).hexdigest(),
        "classnames_sha256": hashlib.sha256(b"alpha\nbravo\ncharlie\ndelta\necho").hexdigest(),
        "fewshot": {
            f"{c['num_shots']}-{c['seed']}": [digest(c[part], "dtd/images/") for part in ("train", "val")]
            for c in cases
        },
    }
    monkeypatch.setattr(known, "published", lambda: {"DescribableTextures": published})
    return root


def snapshot(root):
    return {
        path.relative_to(root): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in root.rglob("*")
    }


def status(*words):
    return doctor.main([str(word) for word in words])


def wrong(root, name="dtd", deep=False):
    """Subject -> (text, advice) of what is wrong."""
    findings = doctor.examine(known.find(name), root, deep)
    return {f.subject: (f.text, f.advice) for f in findings if f.state == WRONG}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_healthy_folder_of_every_layout_is_called_well_and_not_touched(
    layout, example, lay_out, fit, capsys
):
    root = lay_out(example(layout))
    entry = fit(example(layout))
    before = snapshot(root)
    assert status(entry.name, "--root", root, "--deep") == 0, capsys.readouterr().out
    assert snapshot(root) == before
    assert capsys.readouterr().out.endswith("all is well\n")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_that_is_gone_is_noticed_in_every_layout(layout, example, lay_out, fit, capsys):
    root = lay_out(example(layout))
    entry = fit(example(layout))
    path = whole_lists(example(layout))["test"][0][0]
    next(root.rglob(Path(path).name)).unlink()
    assert status(entry.name, "--root", root) == 1
    assert "WRONG" in capsys.readouterr().out


def test_imagenetv2_is_examined_too(tmp_path, state):
    folder = tmp_path / "imagenetv2"
    for label in range(3):
        (folder / "imagenetv2-matched-frequency-format-val" / str(label)).mkdir(parents=True)
        (folder / "imagenetv2-matched-frequency-format-val" / str(label) / "a.jpeg").touch()
    (folder / "classnames.txt").write_text("n01 one\nn02 two\nn03 three\n")
    state(replace(known.find("imagenetv2"), classes=3, test=3))
    assert wrong(tmp_path, "imagenetv2") == {}
    (folder / "classnames.txt").unlink()
    text, advice = wrong(tmp_path, "imagenetv2")["lists"]  # there are 1,000 names beside the code
    assert "997 of the folders 0 to 999 do not exist" in text
    assert advice.endswith(f"python -m datasets.prepare imagenetv2 --root {tmp_path}")


def test_a_folder_as_published_has_coops_split_and_picks(dtd, capsys):
    assert status("dtd", "--root", dtd) == 0
    out = capsys.readouterr().out
    assert "split_zhou_DescribableTextures.json is CoOp's, bit for bit" in out
    assert "CoOp's in all" in out


def test_another_split_is_not_coops(dtd):
    path = dtd / "dtd/split_zhou_DescribableTextures.json"
    split = json.loads(path.read_text())
    split["train"][0], split["train"][1] = split["train"][1], split["train"][0]  # same images, other order
    path.write_text(json.dumps(split))
    found = wrong(dtd)
    assert set(found) == {"split", "few-shot picks"}
    assert "datasets.prepare dtd" in found["split"][1]


def test_a_split_written_in_another_form_still_gives_coops_picks(dtd):
    path = dtd / "dtd/split_zhou_DescribableTextures.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert set(wrong(dtd)) == {"split"}


def test_a_cut_off_split_is_named_with_the_place(dtd):
    path = dtd / "dtd/split_zhou_DescribableTextures.json"
    path.write_text(path.read_text()[:100])
    assert "not valid JSON (line" in wrong(dtd)["lists"][0]


def test_without_a_split_file_none_is_made(dtd, capsys):
    (dtd / "dtd/split_zhou_DescribableTextures.json").unlink()
    before = snapshot(dtd)
    doctor.report("dtd", dtd)
    assert "the first use makes one of its own, which is not CoOp's" in capsys.readouterr().out
    assert snapshot(dtd) == before


def test_missing_images_are_counted_and_the_first_are_named(dtd):
    for number in (10, 11, 12, 4):
        (dtd / f"dtd/images/echo/echo_{number:04d}.jpg").unlink()
    text, advice = wrong(dtd)["image files"]
    assert text == (
        "4 of 60 are missing: echo/echo_0004.jpg, echo/echo_0010.jpg, echo/echo_0011.jpg and 1 more"
    )
    assert f"python -m datasets.prepare dtd --root {dtd}" in advice


def test_an_image_that_does_not_open_is_found_by_deep_only(dtd):
    (dtd / "dtd/images/echo/echo_0004.jpg").write_bytes(b"no image")
    assert wrong(dtd) == {}
    assert "echo_0004.jpg cannot be read as an image" in wrong(dtd, deep=True)["opened"][0]


@pytest.mark.parametrize(
    "move, subject, advice",
    [
        (("dtd", "DTD"), "folder", "DTD looks like it: mv "),
        (("dtd", "dtd-r1.0.1"), "folder", "dtd-r1.0.1 looks like it: mv "),
        (
            ("dtd", "dtd/dtd"),
            "images",
            "one level too deep, in {root}/dtd/dtd/images: move what is in dtd/ up",
        ),
        (("dtd/images", "dtd/images/images"), "image files", "one level too deep"),
        (("dtd/images/*", "dtd/*"), "image files", "one level too high"),
        (("dtd", "data/nothing"), "folder", "python -m datasets.prepare dtd --root {root}"),
    ],
)
def test_a_near_miss_is_recognized(dtd, move, subject, advice):
    source, target = move
    if source.endswith("*"):
        for path in list(dtd.glob(source)):
            path.rename(dtd / target.replace("*", path.name))
    else:
        (dtd / source).rename(dtd / "moving")
        (dtd / target).parent.mkdir(parents=True, exist_ok=True)
        (dtd / "moving").rename(dtd / target)
    assert advice.format(root=dtd) in wrong(dtd)[subject][1]


def test_imagenet_in_torchvisions_layout_is_recognized(example, lay_out, fit):
    root = lay_out(example("imagenet"))
    fit(example("imagenet"))
    for part in ("train", "val"):
        (root / "imagenet/images" / part).rename(root / "imagenet" / part)
    findings = list(doctor.examine(known.find("imagenet"), root))
    advice = [f.advice for f in findings if f.state == WRONG]
    assert advice == [
        f"it lies one level too high, in {root}/imagenet/{part}: move it to {root}/imagenet/images/{part}"
        for part in ("train", "val")
    ]


def test_a_root_that_is_the_data_set_itself_is_recognized(dtd):
    assert f"pass --root {dtd}" in wrong(dtd / "dtd")["folder"][1]


def test_an_archive_that_is_not_unpacked_is_pointed_out(tmp_path):
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat/EuroSAT.zip").touch()
    assert "EuroSAT.zip is not unpacked" in wrong(tmp_path, "eurosat")["images"][1]


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("opened"),))


def test_coops_pickles_are_mentioned_and_never_opened(dtd, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (dtd / "dtd/split_fewshot").mkdir()
    (dtd / "dtd/split_fewshot/shot_16-seed_1.pkl").write_bytes(pickle.dumps(Trap()))
    (dtd / "dtd/preprocessed.pkl").write_bytes(pickle.dumps(Trap()))
    assert doctor.report("dtd", dtd)
    out = capsys.readouterr().out
    assert "split_fewshot/ holds 1 of CoOp's caches; never opened here" in out
    assert "preprocessed.pkl is CoOp's list of images; never opened here" in out
    assert not (tmp_path / "opened").exists()


def test_embedded_data_are_examined_and_a_changed_picture_is_noticed(tmp_path):
    assert wrong(tmp_path, "demo_signs") == {}  # drawn on first use
    prepare.draw(known.find("demo_signs"), tmp_path)
    assert wrong(tmp_path, "demo_signs") == {}
    picture = next((tmp_path / "demo_signs/images").glob("*/*.png"))
    Image.new("RGB", (48, 48)).save(picture)
    assert "changed after drawing" in wrong(tmp_path, "demo_signs")["digest"][0]


def test_where_files_came_from_is_shown(dtd, capsys):
    origin = {"from": "https://example.org", "digest": "md5:f00d", "date": "2031-01-01", "gives": ["images"]}
    note_origin(dtd / "dtd", "dtd.tar.gz", origin)
    assert doctor.report("dtd", dtd)
    shown = "  note  origin          dtd.tar.gz: https://example.org, md5:f00d, 2031-01-01\n"
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["{", "[]", '{"files": [1]}'])
def test_a_damaged_list_of_origins_is_no_fault_of_the_data(damage, dtd):
    (dtd / "dtd/SOURCES.json").write_text(damage)
    assert doctor.report("dtd", dtd)


def test_class_names_of_the_folder_are_compared_with_the_shipped_ones(example, lay_out, fit, capsys):
    root = lay_out(example("imagenet_a"))
    fit(example("imagenet_a"))
    names = root / "imagenet-adversarial/classnames.txt"
    doctor.report("imagenet_a", root)
    assert "ok    classnames.txt  as they ship with the code" in capsys.readouterr().out
    names.write_text(names.read_text().replace("\n", " of another list\n", 1))
    doctor.report("imagenet_a", root)
    told = "note  classnames.txt  the folder's own are used; 1 of them are not those that ship with the code"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("name", ["food101", "sun397"])
def test_a_split_with_a_git_blob_id_is_compared_too(name, tmp_path):
    entry = known.find(name)
    (tmp_path / entry.folder / entry.images[0]).mkdir(parents=True)
    (tmp_path / entry.folder / entry.split).write_text("{}")
    assert "is not the one that CoOp published" in wrong(tmp_path, name)["split"][0]


def test_all_looks_at_what_is_there(dtd, capsys):
    assert status("all", "--root", dtd) == 0
    out = capsys.readouterr().out
    assert "well:      dtd\n" in out and "not here:  caltech101, " in out
    (dtd / "Caltech101").mkdir()
    assert status("all", "--root", dtd) == 1
    assert "wrong:     caltech101\n" in capsys.readouterr().out


def test_an_unknown_name_and_an_unknown_root_are_errors(tmp_path):
    with pytest.raises(SystemExit, match="did you mean 'dtd'"):
        status("dtdd", "--root", tmp_path)
    with pytest.raises(SystemExit, match="nowhere is no folder"):
        status("all", "--root", tmp_path / "nowhere")
