"""Kept test pictures: the same bits as decoded ones, found by any run, trusted only if nothing changed."""

import copy
import os
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data import build_data_loader
from dassl.data.data_manager import send_as_bytes
from dassl.data.datasets import Datum
from dassl.data.kept_pictures import FOLDER, HEAD, keep_pictures, row_bytes
from dassl.data.transforms import build_transform
from dassl.data.transforms.in_bytes import in_two_parts

CPU = torch.device("cpu")
AN_HOUR = 3600
SIZE = (12, 12)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clipfit" / FOLDER


@pytest.fixture(autouse=True)
def long_ago(monkeypatch):
    """Pictures that tests make just now count as old ones."""
    monkeypatch.setattr("dassl.data.kept_pictures.SETTLED", -AN_HOUR * 10**9)


@pytest.fixture
def cfg():
    cfg = get_cfg_default()
    cfg.SEED, cfg.INPUT.SIZE, cfg.DATALOADER.NUM_WORKERS = 1, SIZE, 0
    cfg.INPUT.TRANSFORMS = ("normalize",)
    return cfg


@pytest.fixture
def pictures(tmp_path):
    return draw(tmp_path, range(5))


def draw(folder, seeds):
    paths = [folder / f"{number}.png" for number, _ in enumerate(seeds)]
    for path, seed in zip(paths, seeds, strict=True):
        pixels = np.random.RandomState(seed).randint(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return [Datum(str(path)) for path in paths]


def loader_of(cfg, pictures, gb=1.0, device=CPU):
    cfg = cfg.clone()
    cfg.DATALOADER.TEST_CACHE_GB = gb
    transform = build_transform(cfg, is_train=False)
    loader = build_data_loader(cfg, data_source=pictures, batch_size=2, tfm=transform, is_train=False)
    send_as_bytes(device, loader)
    return loader


def images(loader):
    return torch.cat([batch["img"] for batch in loader])


def decoded(monkeypatch):
    """Paths of the pictures that are decoded from now on."""
    from dassl.data import data_manager

    paths, read = [], data_manager.read_image
    monkeypatch.setattr(
        data_manager, "read_image", lambda path, **how: paths.append(path) or read(path, **how)
    )
    return paths


def files(cache):
    return sorted(cache.glob("*.pixels"))


@pytest.mark.parametrize("device", [CPU, None], ids=["as bytes", "a plugin's floats"])
@pytest.mark.parametrize("workers", [0, 1])
def test_kept_pictures_are_the_same_bits_and_need_no_decoding(
    device, workers, cfg, pictures, cache, monkeypatch
):
    cfg.DATALOADER.NUM_WORKERS = workers
    monkeypatch.setattr("dassl.data.data_manager.usable_workers", lambda requested: requested)
    plain = images(loader_of(cfg, pictures, gb=0.0, device=None))
    assert not cache.exists()
    first = images(loader_of(cfg, pictures, device=device))
    assert len(files(cache)) == 1

    paths = decoded(monkeypatch)
    monkeypatch.setattr("dassl.data.data_manager.DatasetWrapper._read", None)  # in workers, too
    again = images(loader_of(cfg, pictures, device=device))  # as another run
    assert paths == []
    assert plain.numpy().tobytes() == first.numpy().tobytes() == again.numpy().tobytes()


CHANGES = {
    "content": lambda path: draw_over(path, seed=99),
    "content, with the old times": lambda path: draw_over(path, seed=99, keep_times=True),
    "times": lambda path: os.utime(path, ns=(1, 1)),
    "inode": lambda path: (
        shutil.copy2(path, path.with_suffix(".copy")) and path.with_suffix(".copy").replace(path)
    ),
}


def draw_over(path, seed, keep_times=False):
    status = path.stat()
    pixels = np.random.RandomState(seed).randint(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    if keep_times:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_that_changed_is_read_again(change, cfg, pictures, tmp_path, monkeypatch):
    images(loader_of(cfg, pictures))
    CHANGES[change](tmp_path / "2.png")
    paths = decoded(monkeypatch)
    result = images(loader_of(cfg, pictures))
    assert paths == [pictures[2].impath]
    assert torch.equal(result, images(loader_of(cfg, pictures, gb=0.0)))


def test_a_vanished_picture_is_named_though_its_pixels_are_kept(cfg, pictures, tmp_path):
    images(loader_of(cfg, pictures))
    (tmp_path / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match="2.png"):
        images(loader_of(cfg, pictures))


@pytest.mark.parametrize("offset", [0, 13, HEAD, HEAD + 3 * 12 * 12 - 1])
def test_a_flipped_bit_is_noticed_and_mended(offset, cfg, pictures, cache, monkeypatch):
    good = images(loader_of(cfg, pictures))
    (path,) = files(cache)
    content = bytearray(path.read_bytes())
    content[2 * row_bytes(SIZE) + offset] ^= 4
    path.write_bytes(content)
    paths = decoded(monkeypatch)
    assert torch.equal(images(loader_of(cfg, pictures)), good) and paths == [pictures[2].impath]
    assert torch.equal(images(loader_of(cfg, pictures)), good) and len(paths) == 1


@pytest.mark.parametrize("length", [0, 100, 10**6])
def test_a_file_of_another_length_is_of_no_harm(length, cfg, pictures, cache):
    good = images(loader_of(cfg, pictures))
    os.truncate(files(cache)[0], length)
    assert torch.equal(images(loader_of(cfg, pictures)), good)


def test_a_file_cut_while_it_is_read_is_of_no_harm(cfg, pictures, cache):
    loader = loader_of(cfg, pictures)
    good = images(loader)
    os.truncate(files(cache)[0], 0)
    assert torch.equal(images(loader), good)


def test_a_picture_just_written_is_not_kept(cfg, pictures, monkeypatch):
    monkeypatch.setattr("dassl.data.kept_pictures.SETTLED", 2 * 10**9)
    images(loader_of(cfg, pictures))
    paths = decoded(monkeypatch)
    images(loader_of(cfg, pictures))
    assert len(paths) == len(pictures)


OTHERS = {
    "size": ("INPUT.SIZE", (10, 10)),
    "interpolation": ("INPUT.INTERPOLATION", "bicubic"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_two_transforms_never_share_pixels(other, cfg, pictures, cache):
    images(loader_of(cfg, pictures))
    cfg.merge_from_list(list(OTHERS[other]))
    assert torch.equal(images(loader_of(cfg, pictures)), images(loader_of(cfg, pictures, gb=0.0)))
    assert len(files(cache)) == 2


def test_turned_and_other_lists_never_share_a_file_and_other_means_do(cfg, pictures, cache):
    transform = in_two_parts(build_transform(cfg, is_train=False))
    paths = [picture.impath for picture in pictures]
    given = [(paths, False), (paths, True), (paths[:4], False), (paths[::-1], False)]
    assert len({keep_pictures(*one[:1], transform, one[1], 1e9)[0].path for one in given}) == 4
    images(loader_of(cfg, pictures))
    cfg.INPUT.PIXEL_MEAN = [0.1, 0.2, 0.3]
    assert torch.equal(images(loader_of(cfg, pictures)), images(loader_of(cfg, pictures, gb=0.0)))
    assert len(files(cache)) == 4  # the floats are made of the bytes


def test_a_transform_exchanged_after_the_file_was_opened_does_not_get_its_pixels(cfg, pictures):
    loader = loader_of(cfg, pictures)
    images(loader)
    cfg.INPUT.INTERPOLATION = "nearest"
    copied = copy.deepcopy(loader)
    copied.dataset.transform = build_transform(cfg, is_train=False)
    plain = loader_of(cfg, pictures, gb=0.0)
    assert torch.equal(copied.dataset[1]["img"], plain.dataset[1]["img"])
    assert torch.equal(images(copied), images(plain))


def test_files_not_opened_for_longest_make_room(cfg, tmp_path, cache):
    lists = []
    for name in "abc":
        (tmp_path / name).mkdir()
        lists.append(draw(tmp_path / name, range(5)))
    one = 5 * row_bytes(SIZE) / 1e9
    found = []
    for number, pictures in enumerate(lists):
        images(loader_of(cfg, pictures, gb=2.5 * one))
        (new,) = set(files(cache)) - set(found)
        found.append(new)
        os.utime(new, ns=(number, number))
        if number == 1:
            images(loader_of(cfg, lists[0], gb=2.5 * one))  # opened again: now the other is older
    assert set(files(cache)) == {found[0], found[2]}


def test_what_does_not_fit_is_not_kept_and_said(cfg, pictures, cache, capsys):
    images(loader_of(cfg, pictures, gb=1e-7))
    assert files(cache) == [] and "test pictures: not kept" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_costs_only_time(cfg, pictures, cache, capsys):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder belongs")
    assert torch.equal(images(loader_of(cfg, pictures)), images(loader_of(cfg, pictures, gb=0.0)))
    assert "test pictures: not kept" in capsys.readouterr().out


def test_a_full_disk_costs_only_time(cfg, pictures, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwritev", full)
    assert torch.equal(images(loader_of(cfg, pictures)), images(loader_of(cfg, pictures, gb=0.0)))


def one_run(cfg, pictures):
    return images(loader_of(cfg, pictures)).numpy().tobytes()


def test_processes_that_write_at_once_agree(cfg, pictures, cache):
    good = images(loader_of(cfg, pictures, gb=0.0)).numpy().tobytes()
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        runs = [pool.submit(one_run, cfg, pictures) for _ in range(6)]
        assert {run.result() for run in runs} == {good}
    assert len(files(cache)) == 1 and one_run(cfg, pictures) == good


def test_a_pickled_loader_finds_the_file_again(cfg, pictures):
    loader = loader_of(cfg, pictures)
    good = images(loader)
    again = pickle.loads(pickle.dumps(loader.dataset))
    assert torch.equal(again[1]["img"], good[1]) and again.kept.path == loader.dataset.kept.path
