"""Digests of the tensors in checkpoint files."""

import hashlib

import pytest
import torch

from clipfit.io.checkpoints import save_whole, tensors_digest


def test_tensors_of_any_dtype_and_shape_count_in_sorted_order(tmp_path):
    state = {
        "b": torch.arange(6.0).reshape(2, 3).t(),  # not contiguous
        "a": torch.tensor(1.5, dtype=torch.bfloat16),
        "c": torch.zeros(0, 4, dtype=torch.bool),
    }
    save_whole({"state_dict": state, "epoch": 1}, tmp_path / "one")
    save_whole({"state_dict": {"w": torch.tensor([7], dtype=torch.int64)}}, tmp_path / "two")
    lines = b"adapter/w torch.int64 (1,)\n" + (7).to_bytes(8, "little")
    lines += b"prompts/a torch.bfloat16 ()\n" + bytes.fromhex("c03f")
    lines += b"prompts/b torch.float32 (3, 2)\n" + state["b"].contiguous().numpy().tobytes()
    lines += b"prompts/c torch.bool (0, 4)\n"
    files = {"prompts": tmp_path / "one", "adapter": tmp_path / "two"}
    assert tensors_digest(files) == hashlib.sha256(lines).hexdigest()


@pytest.mark.parametrize("content", [{"epoch": 1}, {"state_dict": {"w": 1}}, [1]])
def test_a_file_without_tensors_is_named(content, tmp_path):
    save_whole(content, tmp_path / "model.pth.tar-1")
    with pytest.raises(ValueError, match="model.pth.tar-1 is no checkpoint of a training run"):
        tensors_digest({"m": tmp_path / "model.pth.tar-1"})
