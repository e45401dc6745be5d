"""Registries, files, meters and the other small helpers."""

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.utils import (
    AverageMeter,
    MetricMeter,
    Registry,
    atomic_write,
    check_isfile,
    collect_env_info,
    download_url,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    nearest,
    read_image,
    read_json,
    set_random_seed,
    tolist_if_not,
    unknown_name,
    write_json,
)

ROOT = Path(__file__).parents[2]
METERS = json.loads((ROOT / "tests" / "fixtures" / "meters.json").read_text())


# Registries


def test_a_registry_keeps_the_order_and_refuses_a_taken_name():
    registry = Registry("TOY")

    @registry.register()
    class Second: ...

    def first(): ...

    assert registry.register(first) is None
    assert registry.registered_names() == ["Second", "first"]
    assert registry.get("Second") is Second
    with pytest.raises(KeyError, match="'first'.*TOY"):
        registry.register(first)
    registry.register(first, force=True)
    with pytest.raises(KeyError, match="TOY 'frist'; did you mean 'first'"):
        registry.get("frist")


def test_names_that_are_kept_are_not_taken_and_the_other_gets_its_file_into_its_name():
    registry = Registry("TOY")
    ours, theirs = (
        type("Ball", (), {"__module__": module}) for module in ("toys.ball", "toys.ball_original")
    )
    new, second = (type("Doll", (), {"__module__": module}) for module in ("toys.doll", "toys.other"))
    registry.register(ours)
    with registry.keeping_names():
        registry.register(theirs, force=True)
        registry.register(new)
        with pytest.raises(KeyError, match="'Doll' of toys.other .* TOY by toys.doll"):
            registry.register(second)
    assert registry.registered_names() == ["Ball", "Ball@ball_original", "Doll"]
    assert registry.get("Ball") is ours and registry.get("Ball@ball_original") is theirs


def test_the_message_for_an_unknown_name_offers_the_nearest_and_lists_all():
    message = unknown_name("trainer", "ClipFitt", ["CoOp", "CLIPFit"])
    assert message == "unknown trainer 'ClipFitt'; did you mean 'CLIPFit'? (available: CoOp, CLIPFit)"
    assert "did you mean" not in unknown_name("trainer", "xyz", ["CoOp"])
    assert unknown_name("backbone", "x", []).endswith("(available: none)")


def test_nearest_ignores_case_and_may_find_nothing():
    assert nearest("COOP", ["CoCoOp", "CoOp"]) == "CoOp"
    assert nearest("", ["a"]) is None
    assert nearest("zzz", ["CoOp"]) is None


def test_the_most_similar_text_is_the_later_one_on_a_tie():
    assert get_most_similar_str_to_a_from_b("ab", ["ax", "ay", "z"]) == "ay"


# Files


def test_atomic_write_replaces_the_file_and_creates_folders(tmp_path):
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "zweiter Ü"):
        with atomic_write(path) as file:
            file.write(text)
    assert path.read_bytes() == "zweiter Ü".encode()
    assert os.listdir(path.parent) == ["file.txt"]


def test_a_failure_keeps_the_old_file_and_leaves_no_temporary(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path, "wb") as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_files_get_the_permissions_of_the_users_umask(tmp_path):
    with atomic_write(tmp_path / "atomic") as file:
        file.write("x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path):
    path = tmp_path / "file.txt"

    def write(letter):
        for _ in range(20):
            with atomic_write(path) as file:
                file.write(letter * 10_000)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in ("a" * 10_000, "b" * 10_000)
    assert os.listdir(tmp_path) == ["file.txt"]


def test_json_has_the_familys_form(tmp_path, monkeypatch):
    write_json({"a": [1], "ü": "x"}, tmp_path / "deep" / "x.json")
    assert (
        tmp_path / "deep" / "x.json"
    ).read_text() == '{\n    "a": [\n        1\n    ],\n    "\\u00fc": "x"\n}'
    monkeypatch.chdir(tmp_path)
    write_json([1, 2], "bare.json")
    assert read_json("bare.json") == [1, 2]


@pytest.mark.parametrize("content", [b'{"a": [1, 2', b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


def test_folders_and_their_listing(tmp_path):
    mkdir_if_missing(tmp_path / "a" / "b")
    mkdir_if_missing(tmp_path / "a" / "b")
    mkdir_if_missing("")
    for name in ("z", ".hidden", "y"):
        (tmp_path / "a" / name).touch()
    assert listdir_nohidden(tmp_path / "a", sort=True) == ["b", "y", "z"]
    assert check_isfile(tmp_path / "a" / "y") is True
    with pytest.warns(UserWarning, match="no file"):
        assert check_isfile(tmp_path / "a") is False


# Meters


def test_an_average_meter_weights_by_counts():
    meter = AverageMeter()
    for update, expected in zip(
        METERS["average_meter"]["updates"], METERS["average_meter"]["states"], strict=True
    ):
        meter.update(torch.tensor(update["val"]), update["n"])
        assert {key: getattr(meter, key) for key in expected} == expected


def test_an_exponential_meter_starts_from_zero():
    meter, averages = AverageMeter(ema=True), []
    for value in METERS["ema_meter"]["updates"]:
        meter.update(value)
        averages.append(meter.avg)
    assert averages == METERS["ema_meter"]["avg"]


def test_a_metric_meter_prints_value_and_average():
    meter = MetricMeter()
    meter.update(None)
    for update in METERS["metric_meter"]["updates"]:
        meter.update(update)
    assert str(meter) == METERS["metric_meter"]["str"]
    assert str(meter.meters["acc"].avg) == "50.0"
    with pytest.raises(TypeError, match="float"):
        meter.update(1.0)


# Seeds, images, environment


def test_a_seed_fixes_every_generator():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    set_random_seed(3)
    first = draw()
    set_random_seed(3)
    assert draw() == first
    with pytest.raises(ValueError, match="-1"):
        set_random_seed(-1)


def test_images_are_rgb_and_a_bad_one_is_named(tmp_path):
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    image = read_image(tmp_path / "grey.png")
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (7, 7, 7))
    (tmp_path / "bad.png").write_bytes((tmp_path / "grey.png").read_bytes()[:40])
    with pytest.raises(OSError, match="bad.png cannot be read"):
        read_image(tmp_path / "bad.png")
    with pytest.raises(FileNotFoundError, match="missing.png"):
        read_image(tmp_path / "missing.png")


def test_the_environment_report_names_torch_and_pillow():
    report = collect_env_info()
    assert torch.__version__ in report
    assert "Pillow (" in report


def test_a_download_appears_when_it_is_complete(tmp_path):
    (tmp_path / "source").write_bytes(b"x" * 5)
    download_url((tmp_path / "source").as_uri(), tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == b"x" * 5


def test_lists_stay_and_everything_else_is_wrapped():
    assert tolist_if_not([1]) == [1]
    assert tolist_if_not((1, 2)) == [(1, 2)]


def test_every_public_name_of_utils_exists_and_others_are_reported():
    import dassl.utils

    for name in dassl.utils.__all__:
        assert getattr(dassl.utils, name) is not None
    with pytest.raises(ImportError):
        from dassl.utils import no_such_name  # noqa: F401


def test_helpers_without_tensors_import_no_torch():
    code = "import sys, dassl.utils.tools; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("content", ["[" * 100_000, "[" + "9" * 5_000 + "]", "\ufeff\ufeff{}"])
def test_json_that_python_cannot_hold_is_named(content, tmp_path):
    (tmp_path / "odd.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd\.json is not valid JSON \(.*restore it or remove it"):
        read_json(tmp_path / "odd.json")
