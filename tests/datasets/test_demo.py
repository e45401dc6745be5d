"""The embedded data sets: their classes, and folders that are whole or refused."""

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from PIL import Image

from clipfit.io import digests
from clipfit.io.files import temporary_beside
from dassl.data.datasets import DATASET_REGISTRY
from datasets import demo
from datasets.drawing import folder as drawn
from datasets.drawing import picture

NAMES = ["Demo", "DemoV2", "DemoSketch", "DemoGarden", "DemoCloth", "DemoSigns"]


@pytest.fixture
def few_pictures(monkeypatch):
    """Data sets of three pictures a class, which are drawn fast."""
    monkeypatch.setattr(demo, "PER_CLASS", {"train": 1, "val": 1, "test": 1})


# Classes


def test_six_data_sets_are_registered_and_demo_has_ten_base_and_ten_new_classes():
    assert set(NAMES) <= set(DATASET_REGISTRY.registered_names())
    assert len(demo.DEMO) == 20
    for classes in (demo.DEMO, demo.GARDEN, demo.CLOTH, demo.SIGNS):
        assert len(set(classes)) == len(classes) and len(classes) % 2 == 0


@pytest.mark.parametrize("name", NAMES)
def test_data_set_as_the_trainer_sees_it(name, tmp_path, few_pictures, config):
    data = DATASET_REGISTRY.get(name)(config(tmp_path, shots=1, subsample="new"))
    classes = DATASET_REGISTRY.get(name).classes
    assert data.classnames == list(classes[len(classes) // 2 :])
    assert len(data.train_x) == len(data.val) == len(data.test) == len(classes) // 2
    with Image.open(data.test[0].impath) as image:
        assert image.format == "PNG" and image.size == (picture.SIZE, picture.SIZE)


def test_counts_per_class_leave_room_for_sixteen_shots():
    assert demo.PER_CLASS["train"] >= 16 and demo.PER_CLASS["val"] >= 4 and demo.PER_CLASS["test"] >= 30


# Folders


def test_layout_is_that_of_a_coop_data_set(tmp_path, few_pictures, config):
    demo.Demo(config(tmp_path))
    split = json.loads((tmp_path / "demo" / "split.json").read_text())
    assert split["train"][0] == ["striped_red_star/striped_red_star_0001.png", 0, "striped red star"]
    listed = sorted(path for part in split.values() for path, _, _ in part)
    images = tmp_path / "demo" / "images"
    assert listed == sorted(path.relative_to(images).as_posix() for path in images.glob("*/*"))
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]  # no temporary folder is left


def test_drawing_twice_gives_the_same_bytes(tmp_path, few_pictures, config):
    for root in ("a", "b"):
        demo.DemoSigns(config(tmp_path / root))
    digests = [(tmp_path / root / "demo_signs" / drawn.DIGEST_FILE).read_text() for root in ("a", "b")]
    assert digests[0] == digests[1]


def _start(cfg, barrier):
    barrier.wait()
    demo.DemoSigns(cfg)


def test_of_ten_processes_at_once_one_draws_and_nine_wait(tmp_path, few_pictures, config, monkeypatch):
    context = multiprocessing.get_context("fork")
    barrier, drawn_by = context.Barrier(10), context.Value("i", 0)
    draw = drawn._draw

    def counted(*args):
        with drawn_by:
            drawn_by.value += 1
        draw(*args)

    monkeypatch.setattr(drawn, "_draw", counted)
    processes = [context.Process(target=_start, args=(config(tmp_path), barrier)) for _ in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 10
    assert drawn_by.value == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo_signs"]


def test_half_a_folder_of_a_killed_drawing_goes_with_the_next(tmp_path, few_pictures, config):
    killed = multiprocessing.get_context("fork").Process(target=int)
    killed.start()
    killed.join()
    name = temporary_beside(tmp_path / "demo_signs").name.replace(f".{os.getpid()}-", f".{killed.pid}-")
    (tmp_path / name / "images").mkdir(parents=True)
    (tmp_path / ".demo_signs.drawing").touch()
    demo.DemoSigns(config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["demo_signs"]


def test_an_interrupted_drawing_leaves_nothing_behind(tmp_path, few_pictures, monkeypatch, config):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(drawn, "write_json", full_disk)
    with pytest.raises(OSError, match=r"cannot draw the data set .*demo_signs \(No space left.*make room"):
        demo.DemoSigns(config(tmp_path))
    assert list(tmp_path.iterdir()) == []


def _lose_an_image(folder):
    next(folder.glob("images/*/*.png")).unlink()


def _change_an_image(folder):
    path = next(folder.glob("images/*/*.png"))
    path.write_bytes(path.read_bytes()[:-1])


def _add_an_image(folder):
    (folder / "images" / "other").mkdir()
    (folder / "images" / "other" / "x.png").write_bytes(b"x")


def _lose_the_digest(folder):
    (folder / drawn.DIGEST_FILE).unlink()


def _cut_the_digest(folder):
    (folder / drawn.DIGEST_FILE).write_text('{"version": ')


def _age(folder):
    digest = json.loads((folder / drawn.DIGEST_FILE).read_text())
    (folder / drawn.DIGEST_FILE).write_text(json.dumps(digest | {"version": 0}))


@pytest.mark.parametrize(
    "damage", [_lose_an_image, _change_an_image, _add_an_image, _lose_the_digest, _cut_the_digest, _age]
)
def test_a_changed_folder_is_refused_and_named(damage, tmp_path, few_pictures, config):
    demo.DemoSigns(config(tmp_path))
    damage(tmp_path / "demo_signs")
    with pytest.raises(ValueError, match=r"demo_signs.*move it away, or delete it"):
        demo.DemoSigns(config(tmp_path))


def test_a_hidden_file_of_a_file_manager_is_no_damage(tmp_path, few_pictures, config):
    demo.DemoSigns(config(tmp_path))
    (next((tmp_path / "demo_signs" / "images").iterdir()) / ".DS_Store").write_bytes(b"x")
    demo.DemoSigns(config(tmp_path))


def test_a_users_own_folder_of_that_name_is_left_alone(tmp_path, few_pictures, config):
    (tmp_path / "demo_signs").mkdir()
    (tmp_path / "demo_signs" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a whole embedded data set"):
        demo.DemoSigns(config(tmp_path))
    assert (tmp_path / "demo_signs" / "notes.txt").read_text() == "mine"


def test_a_root_that_cannot_be_written_falls_back_to_the_users_cache(
    tmp_path, few_pictures, monkeypatch, capsys, config
):
    root, mkdir = tmp_path / "readonly", demo.Path.mkdir

    def refuse_below_root(path, *args, **kwargs):
        if root in (path, *path.parents):
            raise OSError(errno.EROFS, "Read-only file system")
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(demo.Path, "mkdir", refuse_below_root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = demo.DemoSigns(config(root))
    used = tmp_path / "cache" / "clipfit" / "demo_signs"
    assert data.dataset_dir == str(used) and data.test[0].impath.startswith(str(used))
    assert f"using {used}" in capsys.readouterr().out
    assert not root.exists()


def test_pictures_that_nobody_touched_are_read_for_their_digest_once(few_pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED", -3600 * 10**9)  # they were drawn a moment ago
    folder = tmp_path / "demo"
    drawn.draw_once(folder, demo.DEMO, "lamp", demo.PER_CLASS)
    read = []
    monkeypatch.setattr(digests, "file_digest", lambda path: read.append(Path(path)) or "0" * 64)
    drawn.check_drawn(folder)
    assert read == []
    changed = next(folder.glob("images/*/*.png"))
    changed.write_bytes(changed.read_bytes()[::-1])
    with pytest.raises(ValueError, match="changed after drawing"):
        drawn.check_drawn(folder)
    assert read == [changed]
