"""Checkpoints that attack or rot: nothing runs, nothing hangs, and words name the file."""

import hashlib
import os
import pickle
import random
import socket
import stat
import tarfile
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from clipfit.io import checkpoints, tensor_files
from clipfit.io.checkpoints import load_checkpoint, load_published, save_whole
from clipfit.weights import check_state, read_checkpoint
from dassl.utils import load_model_file, load_pretrained_weights

READERS = {
    "checkpoint": load_checkpoint,
    "backbone": read_checkpoint,
    "INIT_WEIGHTS": lambda path: load_pretrained_weights(nn.Linear(1, 1), path),
}


def archive_of(path, data_pkl, **records):
    """A zip file as torch.save lays one out."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data_pkl)
        for name, content in records.items():
            file.writestr(f"archive/data/{name}", content)
    return path


# What is good is read as torch reads it


@pytest.mark.parametrize("new_format", [True, False])
def test_good_files_are_read_as_torch_reads_them(new_format, tmp_path):
    shared = torch.arange(12.0)
    tensors = [torch.arange(6).reshape(2, 3).to(dtype) for dtype in (torch.float16, torch.bfloat16)]
    tensors += [torch.arange(6).reshape(2, 3).t().to(torch.complex64), torch.tensor(True), torch.zeros(0, 4)]
    tensors += [torch.arange(3, dtype=dtype) for dtype in (torch.uint8, torch.int8, torch.int16, torch.int64)]
    if new_format:
        tensors += [torch.arange(3).to(dtype) for dtype in (torch.uint16, torch.float8_e4m3fn)]
    state = OrderedDict(tensors=tensors, first=shared[:4], second=shared[2:], weight=nn.Parameter(shared))
    state["plain"] = {1: (2, -3, 10**30, 0.5, "ü", None, True, 1j), "b": [b"x", {3}, torch.float32]}
    state["model"] = nn.BatchNorm1d(2).state_dict()
    path = tmp_path / "good.pt"
    torch.save(state, path, _use_new_zipfile_serialization=new_format)

    expected, found = torch.load(path, weights_only=True), load_checkpoint(path)
    assert repr(found) == repr(expected) and type(found) is OrderedDict
    assert found["first"].untyped_storage().data_ptr() == found["second"].untyped_storage().data_ptr()
    assert isinstance(found["weight"], nn.Parameter)
    assert found["model"]._metadata == expected["model"]._metadata
    assert [tensor.stride() for tensor in found["tensors"]] == [t.stride() for t in expected["tensors"]]


# Programs


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A TorchScript archive, where nothing that could open it may be called."""
    path = tmp_path / "program.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)), path)

    def called(*args, **more):
        raise BaseException("a loader that may run programs is called")

    for place, name in ((torch, "load"), (torch.jit, "load"), (tarfile, "open")):
        monkeypatch.setattr(place, name, called)
    return path


def renamed(path, old, new):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name.replace(old, new), data)


DISGUISES = {
    "none": lambda path: None,
    "bytes behind it": lambda path: path.write_bytes(path.read_bytes() + b"PK\x05\x06"),
    "many bytes behind it": lambda path: path.write_bytes(path.read_bytes() + bytes(100_000)),
    "bytes before it": lambda path: path.write_bytes(b"PK\x03\x04" + path.read_bytes()),
    "nested names": lambda path: renamed(path, "program/", "a/b/"),
    "constants elsewhere": lambda path: renamed(path, "program/constants.pkl", "constants.pkl"),
    "no constants": lambda path: renamed(path, "program/constants.pkl", "program/other.pkl"),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("reader", READERS)
def test_a_program_is_refused_by_every_reader_however_it_is_disguised(reader, disguise, program):
    DISGUISES[disguise](program)
    with pytest.raises(ValueError, match=r"program\.pt is (a TorchScript|a JIT|not a readable)"):
        READERS[reader](program)


def test_the_bytes_of_a_published_program_are_hashed_and_loaded_from_one_reading(program, monkeypatch):
    digest, loaded = hashlib.sha256(program.read_bytes()).hexdigest(), []

    def load(source, map_location):
        loaded.append(hashlib.sha256(source.getvalue()).hexdigest())
        return nn.Linear(1, 1)

    def replaced(content):
        program.write_bytes(b"another program")
        return real(content)

    real = hashlib.sha256
    monkeypatch.setattr(torch.jit, "load", load)
    monkeypatch.setattr(checkpoints.hashlib, "sha256", replaced)
    assert load_published(program, {digest}).keys() == {"weight", "bias"}
    assert loaded == [digest]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_checkpoint_touches_no_other_file(kind, form, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("secret")
    victim.chmod(0o600)
    with tarfile.open(tmp_path / "old.pth", "w", format=form) as tar:
        info = tarfile.TarInfo("storages")
        info.type, info.linkname, info.mode, info.mtime = kind, str(victim), 0o4777, 1
        tar.addfile(info)
    for read in READERS.values():
        with pytest.raises(ValueError, match=r"old\.pth .*tar file.*save it anew"):
            read(tmp_path / "old.pth")
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600 and victim.stat().st_mtime > 1


# Bit rot


def flipped(path, record):
    """Flip a bit in the middle of a record's bytes."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(record)
    content = bytearray(path.read_bytes())
    at = info.header_offset
    name, extra = (int.from_bytes(content[at + place :][:2], "little") for place in (26, 28))
    content[at + 30 + name + extra + info.compress_size // 2] ^= 0x20
    path.write_bytes(content)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("record", ["data/0", "data.pkl", "version", "byteorder"])
def test_one_flipped_bit_in_any_record_is_noticed(record, reader, tmp_path):
    path = tmp_path / "model.pth.tar-3"
    save_whole({"state_dict": {"weight": torch.randn(100)}, "epoch": 3}, path)
    root = zipfile.ZipFile(path).namelist()[0].split("/")[0]
    flipped(path, f"{root}/{record}")
    with pytest.raises(ValueError, match=r"model\.pth\.tar-3 is not a readable checkpoint"):
        READERS[reader](path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("new_format", [True, False])
def test_half_a_checkpoint_is_named_with_its_cure(new_format, part, tmp_path):
    path = tmp_path / "half.pt"
    torch.save({"w": torch.randn(1000)}, path, _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ValueError, match=r"half\.pt is not a readable.*cut short.*: remove it, get it"):
        load_checkpoint(path)


@pytest.mark.parametrize("new_format", [True, False])
def test_bytes_that_are_missing_or_changed_anywhere_are_told_in_words_or_do_not_matter(new_format, tmp_path):
    path, rng = tmp_path / "model.pth.tar-3", random.Random(0)
    weight = torch.arange(40.0)
    state = {"state_dict": {"weight": weight}, "epoch": 3}
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        content, at = bytearray(whole), rng.randrange(len(whole))
        content[at : at + rng.randrange(40)] = rng.randbytes(rng.randrange(40))
        path.write_bytes(content)
        try:
            found = load_model_file(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:  # the old format has no checksums
            assert not new_format or torch.equal(found["state_dict"]["weight"], weight)
    assert refused > 150


# Sizes


@pytest.mark.parametrize("new_format", [True, False])
def test_a_tensor_of_more_numbers_than_the_file_has_takes_no_memory(new_format, tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=r"w\.pt .*shape \(1099511627776,\) has only 1 numbers"):
        load_checkpoint(path)


@pytest.mark.parametrize("size, stride, offset", [((9,), (1,), 0), ((2, 2), (7, 1), 0), ((1,), (1,), 8)])
def test_a_tensor_does_not_reach_beyond_its_storage(size, stride, offset, tmp_path):
    path = archive_of(tmp_path / "w.pt", pickled_tensor(size, stride, offset), **{"0": bytes(32)})
    with pytest.raises(ValueError, match="has only 8 numbers in the file"):
        load_checkpoint(path)


def test_a_storage_that_says_it_is_larger_than_its_record_is_refused(tmp_path):
    path = archive_of(tmp_path / "w.pt", pickled_tensor((1,), (1,), 0, count=1 << 40), **{"0": bytes(32)})
    with pytest.raises(ValueError, match="data/0 holds 32 bytes, not 4,398,046,511,104"):
        load_checkpoint(path)


class _Global:
    def __init__(self, module, name):
        self.name = f"c{module}\n{name}\n".encode()


def pickled(value):
    """Pickle of plain values, tuples and `_Global`s; protocol 2, as torch writes it."""
    if isinstance(value, _Global):
        return value.name
    if isinstance(value, tuple):
        return b"(" + b"".join(map(pickled, value)) + b"t"
    return pickle.dumps(value, 2)[2:-1]


def pickled_tensor(size, stride, offset, count=8, dtype="FloatStorage"):
    storage = pickled(("storage", _Global("torch", dtype), "0", "cpu", count)) + b"Q"
    rest = b"".join(map(pickled, (offset, size, stride, False, None)))
    call = pickled(_Global("torch._utils", "_rebuild_tensor_v2")) + b"(" + storage + rest + b"tR"
    return b"\x80\x02" + call + b"."


def test_a_zip_bomb_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "ALWAYS_UNPACKED", 1 << 16)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickled_tensor((1 << 18,), (1,), 0, count=1 << 18))
        file.writestr("archive/data/0", bytes(1 << 20))
    with pytest.raises(ValueError, match=r"bomb\.pt .*it says that it holds 1,048,\d+ bytes and has"):
        load_checkpoint(tmp_path / "bomb.pt")


def test_records_that_lie_on_each_other_do_not_multiply(tmp_path):
    path = archive_of(tmp_path / "w.pt", pickled_tensor((8,), (1,), 0), **{"0": bytes(32)})
    content, header = path.read_bytes(), b"PK\x01\x02"
    entries = content[content.index(header) : content.index(b"PK\x05\x06")]
    end = bytearray(content[content.index(b"PK\x05\x06") :])
    end[8:10] = end[10:12] = (2 * 40).to_bytes(2, "little")
    end[12:16] = (len(entries) * 40).to_bytes(4, "little")
    path.write_bytes(content[: content.index(header)] + entries * 40 + end)
    with pytest.raises(ValueError, match=r"w\.pt is not a readable checkpoint"):
        load_checkpoint(path)


def test_memory_that_runs_out_is_told_as_that(tmp_path, monkeypatch):
    save_whole({"w": torch.zeros(9)}, tmp_path / "large.pt")

    def empty(*args, **more):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(tensor_files.torch, "empty", empty)
    with pytest.raises(MemoryError, match=r"large\.pt .*does not fit into memory; end other programs"):
        load_checkpoint(tmp_path / "large.pt")


# Pickles


@pytest.mark.parametrize(
    "stream, message",
    [
        (b"})" + b"2\x86" * 18 + b"Ns.", "a key of a dictionary is a nested tuple"),
        (b"}()" + b"2\x86" * 18 + b"Nu.", "a key of a dictionary is a nested tuple"),
        (b"cbuiltins\nset\n](" + b")" + b"2\x86" * 18 + b"e\x85R.", "a key of a dictionary is a nested"),
        (b"cbuiltins\nbytearray\n\x8a\x06" + bytes(5) + b"\x01\x85R.", "bytearray of something"),
        (b"\x8e" + b"\xff" * 7 + b"\x0f" + b".", "readable"),  # a bytes object of exabytes
        (b"\x96" + b"\xff" * 7 + b"\x0f" + b".", "readable"),  # a bytearray of exabytes
        (b"r\xff\xff\xff\xffN.", "readable"),  # a memo of so many entries
        (b"ctorch\nQUInt8Storage\n.", "would run code"),
        (b"ctorch._utils\n_rebuild_sparse_tensor\n.", "would run code"),
    ],
)
def test_a_pickle_takes_neither_endless_time_nor_memory(stream, message, tmp_path):
    for name, content in (("zip", None), ("plain", b"\x80\x02" + stream)):
        path = tmp_path / f"{name}.pt"
        archive_of(path, b"\x80\x02" + stream) if content is None else path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.pt.*{message}"):
            load_checkpoint(path)


@pytest.mark.parametrize("dtype", [torch.quint8, torch.bits8, "float32", (1, (2, 3))])
def test_a_tensor_of_a_dtype_that_holds_no_numbers_is_refused(dtype, tmp_path):
    shown = pickled(_Global("torch", str(dtype)[6:]) if isinstance(dtype, torch.dtype) else dtype)
    storage = pickled(("storage", _Global("torch", "UntypedStorage"), "0", "cpu", 8)) + b"Q"
    rest = b"".join(map(pickled, (0, (1,), (1,), False, None)))
    call = pickled(_Global("torch._utils", "_rebuild_tensor_v3")) + b"(" + storage + rest + shown + b"tR."
    path = archive_of(tmp_path / "w.pt", b"\x80\x02" + call, **{"0": bytes(8)})
    with pytest.raises(ValueError, match=r"w\.pt .*dtype .*which holds no plain numbers"):
        load_checkpoint(path)


@pytest.mark.parametrize("epoch", [-1, True, 1.5, None, "3"])
def test_an_epoch_that_cannot_be_is_refused(epoch, tmp_path):
    save_whole({"state_dict": {"w": torch.zeros(1)}, "epoch": epoch}, tmp_path / "model.pth.tar-3")
    with pytest.raises(ValueError, match=r"model\.pth\.tar-3 .*how many epochs are finished.*load another"):
        load_model_file(tmp_path / "model.pth.tar-3")


def test_a_validation_result_that_is_no_number_is_refused(tmp_path):
    state = {"state_dict": {"w": torch.zeros(1)}, "epoch": 3, "val_result": "high"}
    save_whole(state, tmp_path / "model.pth.tar-3")
    with pytest.raises(ValueError, match=r"model\.pth\.tar-3: val_result is no number"):
        load_model_file(tmp_path / "model.pth.tar-3")


def test_names_in_a_pickle_do_not_reach_the_terminal_as_they_are(tmp_path):
    archive_of(tmp_path / "w.pt", b"\x80\x02cos\n\x1b[2J" + b"x" * 9999 + b"\n.")
    with pytest.raises(ValueError, match=r"would run code \(os\.\?\[2Jx{100,200}\)"):
        load_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int64, torch.complex64])
def test_a_backbone_of_a_dtype_that_holds_no_weights_is_named(dtype):
    expected = {"w": torch.zeros(2), "seen": torch.tensor(1)}
    check_state({"w": torch.zeros(2).half(), "seen": torch.tensor(1)}, expected, "good.pt")
    with pytest.raises(ValueError, match="bad.pt: tensor 'w' is of dtype .*; choose torch.float32, "):
        check_state({**expected, "w": torch.zeros(2).to(dtype)}, expected, "bad.pt")


@pytest.mark.parametrize("content", [[1], {"state_dict": [1]}, {"a": 1}, {1: torch.zeros(1)}])
def test_initial_weights_without_tensors_are_named(content, tmp_path):
    save_whole(content, tmp_path / "init.pt")
    with pytest.raises(ValueError, match=r"init\.pt .*no state_dict of tensors"):
        load_pretrained_weights(nn.Linear(1, 1), tmp_path / "init.pt")


# What is no file


@pytest.mark.parametrize("reader", READERS)
def test_pipes_devices_sockets_and_folders_are_refused_and_do_not_hang(reader, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
        for path in (tmp_path / "pipe", "/dev/zero", tmp_path / "s"):
            with pytest.raises(ValueError, match=rf"{path} is .*no file; give the path of"):
                READERS[reader](path)
    with pytest.raises(FileNotFoundError, match="that is a folder; name a file in it"):
        READERS[reader](tmp_path)


def test_a_byte_order_that_is_none_swaps_no_bytes(tmp_path):
    torch.save({"w": torch.arange(3.0)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, b"other" if name.endswith("byteorder") else data)
    with pytest.raises(ValueError, match=r"w\.pt .*byteorder says neither little nor big"):
        load_checkpoint(tmp_path / "w.pt")
