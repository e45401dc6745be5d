"""Checkpoint files: written whole or not at all, read without running anything, resumed from the newest."""

import io
import os
import pickle
import resource
import zipfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from clipfit.io import safe_unpickle
from dassl.run_folder import newest_checkpoint
from dassl.utils import (
    count_num_param,
    load_checkpoint,
    load_pretrained_weights,
    open_specified_layers,
    resume_from_checkpoint,
    save_checkpoint,
)


def state(epoch, weight=0.0, **more):
    return {"state_dict": {"weight": torch.full((2,), weight)}, "epoch": epoch, "optimizer": None, **more}


# Writing


def test_a_checkpoint_comes_back_and_the_pointer_names_it(tmp_path):
    save_checkpoint(state(3, 1.5, val_result=61.25), tmp_path / "learner")
    assert sorted(os.listdir(tmp_path / "learner")) == ["checkpoint", "model.pth.tar-3"]
    assert (tmp_path / "learner" / "checkpoint").read_text() == "model.pth.tar-3\n"
    loaded = load_checkpoint(tmp_path / "learner" / "model.pth.tar-3")
    assert loaded["state_dict"]["weight"].tolist() == [1.5, 1.5]
    assert (loaded["epoch"], loaded["val_result"]) == (3, 61.25)


def test_own_files_load_with_torchs_safe_reader(tmp_path):
    save_checkpoint(state(1), tmp_path)
    torch.load(tmp_path / "model.pth.tar-1", weights_only=True)


def test_the_best_model_and_a_chosen_name_get_their_files(tmp_path):
    save_checkpoint(state(1), tmp_path, is_best=True)
    save_checkpoint(state(2), tmp_path, model_name="mine.tar")
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "mine.tar", "model-best.pth.tar", "model.pth.tar-1"]
    assert load_checkpoint(tmp_path / "model-best.pth.tar")["epoch"] == 1


def test_the_prefix_of_data_parallel_is_stripped_in_the_file_only(tmp_path):
    original = {"state_dict": {"module.module.w": torch.ones(1)}, "epoch": 1}
    save_checkpoint(original, tmp_path)
    assert list(load_checkpoint(tmp_path / "model.pth.tar-1")["state_dict"]) == ["module.w"]
    assert list(original["state_dict"]) == ["module.module.w"]


@pytest.fixture
def full_disk():
    """Let no file grow beyond 64 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_files_and_no_temporary(tmp_path, full_disk):
    save_checkpoint(state(1, 7.0), tmp_path)
    big = {"state_dict": {"weight": torch.zeros(1 << 16)}, "epoch": 1}
    full_disk()
    with pytest.raises(OSError, match=r"cannot save .*model\.pth\.tar-1 .*File too large.*unchanged"):
        save_checkpoint(big, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "model.pth.tar-1"]
    assert load_checkpoint(tmp_path / "model.pth.tar-1")["state_dict"]["weight"].tolist() == [7.0, 7.0]


def test_an_interrupted_save_leaves_the_old_files_and_no_temporary(tmp_path, monkeypatch):
    save_checkpoint(state(1), tmp_path)

    def interrupted(state, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(state(2), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "model.pth.tar-1"]
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-1\n"


# Reading what others wrote


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def write_zip(obj, path):
    torch.save(obj, path)


def write_legacy(obj, path):
    torch.save(obj, path, _use_new_zipfile_serialization=False)


def write_pickle(obj, path):
    path.write_bytes(pickle.dumps(obj))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [write_zip, write_legacy, write_pickle])
def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path, write):
    path, target = tmp_path / "evil.pth", tmp_path / "ran"
    write({"state_dict": {}, "epoch": Hostile(target)}, path)
    with pytest.raises(ValueError, match=r"evil\.pth is refused: it would run code \(posix\.mkdir\)"):
        load_checkpoint(path)
    assert not target.exists()


def test_code_inside_the_state_of_an_admitted_optimizer_is_refused(tmp_path):
    path, target = tmp_path / "evil.pth", tmp_path / "ran"
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    optimizer.defaults["x"] = Hostile(target)
    write_zip({"optimizer": optimizer}, path)
    with pytest.raises(ValueError, match="posix.mkdir"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "name",
    [
        ("torch.storage", "_load_from_bytes"),  # would unpickle its argument without restriction
        ("torch", "load"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("functools", "partial"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch._utils", "os.system"),
        ("dasslx", "anything"),
    ],
)
def test_names_that_reach_further_are_not_resolved(name):
    with pytest.raises(safe_unpickle.RefusedGlobal):
        safe_unpickle.Unpickler(io.BytesIO()).find_class(*name)


def test_a_pickle_cannot_change_what_it_may_call():
    stream = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}(X\x0c\x00\x00\x00__defaults__N\x75\x86b."
    with pytest.raises(safe_unpickle.RefusedGlobal):
        safe_unpickle.load(io.BytesIO(stream))
    assert torch._utils._rebuild_tensor_v2.__defaults__ == (None,)


class ConstantWarmup:
    """Like a scheduler that keeps its successor as an object; pickled under a name of Dassl's package."""

    __module__ = "dassl.optim.lr_scheduler"
    __qualname__ = "ConstantWarmup"


def test_a_checkpoint_with_a_pickled_scheduler_is_read_as_plain_data(tmp_path, monkeypatch):
    import dassl.optim.lr_scheduler as home

    monkeypatch.setattr(home, "ConstantWarmup", ConstantWarmup, raising=False)
    weight = nn.Parameter(torch.arange(3.0))
    optimizer = torch.optim.SGD([weight], lr=0.002, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    # As older versions of torch pickle a schedule: with its optimizer, without functions.
    successor = torch.optim.lr_scheduler.CosineAnnealingLR.__new__(torch.optim.lr_scheduler.CosineAnnealingLR)
    successor.__dict__ = {"optimizer": optimizer, "T_max": 10, "last_epoch": 2, "base_lrs": [0.002]}
    outer = ConstantWarmup()
    outer.successor = successor
    saved = {
        "state_dict": OrderedDict(weight=weight.detach()),
        "epoch": 3,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"successor": successor, "outer": outer, "base_lrs": [0.002], "last_epoch": 1},
        "val_result": np.float64(61.5),
        "counts": defaultdict(int, a=1),
    }
    torch.save(saved, tmp_path / "foreign.pth")
    monkeypatch.delattr(home, "ConstantWarmup")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "foreign.pth", weights_only=True)

    loaded = load_checkpoint(tmp_path / "foreign.pth")
    assert torch.equal(loaded["state_dict"]["weight"], weight)
    assert torch.equal(loaded["optimizer"]["state"][0]["momentum_buffer"], torch.ones(3))
    assert loaded["val_result"] == 61.5
    assert loaded["counts"] == {"a": 1}
    inert = loaded["scheduler"]["successor"]
    assert isinstance(inert, safe_unpickle.Placeholder)
    assert type(inert).__name__ == "CosineAnnealingLR"
    assert inert.state["T_max"] == 10
    assert isinstance(inert.state["optimizer"], safe_unpickle.Placeholder)
    assert isinstance(loaded["scheduler"]["outer"], safe_unpickle.Placeholder)


def test_numpy_numbers_keep_value_type_and_byte_order(tmp_path):
    numbers = [np.float64(0.1), np.int32(-7), np.bool_(True), np.float32(2.5)]
    torch.save(numbers, tmp_path / "numbers.pth")
    assert load_checkpoint(tmp_path / "numbers.pth") == numbers
    big_endian = safe_unpickle.load(io.BytesIO(pickle.dumps(np.array([258], ">i2").dtype.type(258))))
    assert big_endian == 258


# Files that are no checkpoints


def test_a_truncated_file_is_named(tmp_path):
    save_checkpoint({"state_dict": {"weight": torch.zeros(1000)}, "epoch": 1}, tmp_path)
    path = tmp_path / "model.pth.tar-1"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"model\.pth\.tar-1 is not a readable checkpoint"):
        load_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps({"a": 1}), b"PK\x03\x04 not a zip"])
def test_other_files_are_named(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match="file is not a readable checkpoint"):
        load_checkpoint(tmp_path / "file")


def test_a_program_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("program/constants.pkl", b"")
    with pytest.raises(ValueError, match="TorchScript archive"):
        load_checkpoint(tmp_path / "program.pt")


def test_no_path_and_no_file_are_errors(tmp_path):
    with pytest.raises(ValueError, match="None"):
        load_checkpoint(None)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_checkpoint(tmp_path / "nowhere")


# Resuming


def test_the_newest_checkpoint_is_the_highest_epoch_whatever_the_pointer_says(tmp_path):
    assert newest_checkpoint(tmp_path / "nowhere") is None
    assert newest_checkpoint(tmp_path) is None
    for epoch in (9, 100, 20):
        save_checkpoint(state(epoch), tmp_path)
    save_checkpoint(state(5), tmp_path, model_name="model-best.pth.tar")
    (tmp_path / ".model.pth.tar-200.1-ab.tmp").write_bytes(b"left by a killed run")
    assert newest_checkpoint(tmp_path) == tmp_path / "model.pth.tar-100"


def test_resuming_loads_model_optimizer_and_epoch(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(
        {"state_dict": model.state_dict(), "epoch": 4, "optimizer": optimizer.state_dict()}, tmp_path
    )
    other = nn.Linear(2, 1)
    other_optimizer = torch.optim.SGD(other.parameters(), lr=0.7, momentum=0.9)
    assert resume_from_checkpoint(tmp_path, other, other_optimizer) == 4
    assert torch.equal(other.weight, model.weight)
    assert other_optimizer.param_groups[0]["lr"] == 0.1
    assert torch.equal(other_optimizer.state[other.weight]["momentum_buffer"], torch.ones(1, 2))


def test_a_folder_with_only_the_best_model_resumes_from_it(tmp_path):
    model = nn.Linear(2, 1)
    best = {"state_dict": model.state_dict(), "epoch": 2}
    save_checkpoint(best, tmp_path, model_name="model-best.pth.tar")
    assert resume_from_checkpoint(tmp_path, nn.Linear(2, 1)) == 2
    with pytest.raises(FileNotFoundError):
        resume_from_checkpoint(tmp_path / "nowhere", model)


# Modules


def test_pretrained_weights_load_where_name_and_shape_match(tmp_path, capsys):
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    kept = model["b"].weight.clone()
    torch.save(
        {"state_dict": {"module.a.bias": torch.ones(2), "b.weight": torch.ones(9)}}, tmp_path / "w.pth"
    )
    load_pretrained_weights(model, tmp_path / "w.pth")
    assert model["a"].bias.tolist() == [1.0, 1.0]
    assert torch.equal(model["b"].weight, kept)
    assert "b.weight" in capsys.readouterr().out
    torch.save({"other": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="nothing in"):
        load_pretrained_weights(model, tmp_path / "w.pth")


def test_parameters_are_counted_frozen_ones_too():
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    assert count_num_param(model) == 8
    assert count_num_param(params=[torch.zeros(4), {"params": torch.zeros(2, 3)}]) == 10
    with pytest.raises(ValueError):
        count_num_param()


def test_opening_layers_freezes_the_others():
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    open_specified_layers(model, "b")
    assert (model["a"].weight.requires_grad, model["b"].weight.requires_grad) == (False, True)
    assert (model["a"].training, model["b"].training) == (False, True)
    with pytest.raises(ValueError, match="no layer 'c'"):
        open_specified_layers(model, ["c"])
