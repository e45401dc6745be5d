"""What a run settles for itself, whatever ran in its process before."""

import pytest
import torch

from clipfit.memory import default_budget
from dassl.config import get_cfg_default
from dassl.run_folder import write_config
from launch.runtime import prepare, settle_memory

BACKENDS = torch.backends


def newer_interface():
    BACKENDS.cudnn.conv.fp32_precision = BACKENDS.cuda.matmul.fp32_precision = "tf32"


def newer_interface_for_all():
    BACKENDS.fp32_precision = BACKENDS.cudnn.fp32_precision = "tf32"


def older_interface():
    BACKENDS.cudnn.allow_tf32 = BACKENDS.cuda.matmul.allow_tf32 = True


def other_attention():
    for enable in (BACKENDS.cuda.enable_flash_sdp, BACKENDS.cuda.enable_mem_efficient_sdp):
        enable(False)
    BACKENDS.cuda.enable_cudnn_sdp(True)


@pytest.mark.parametrize(
    "before", [newer_interface, newer_interface_for_all, older_interface, other_attention]
)
def test_float32_is_not_tf32_and_attention_is_not_cudnns(before):
    before()
    cfg = get_cfg_default()
    cfg.SEED, cfg.THREADS, cfg.VERBOSE = 1, torch.get_num_threads(), False
    prepare(cfg)
    newer = BACKENDS.cudnn.conv.fp32_precision, BACKENDS.cuda.matmul.fp32_precision
    older = BACKENDS.cudnn.allow_tf32, BACKENDS.cuda.matmul.allow_tf32
    assert "tf32" not in newer and older == (False, False)
    assert torch.get_float32_matmul_precision() == "highest"
    cuda = BACKENDS.cuda
    assert cuda.flash_sdp_enabled() and cuda.mem_efficient_sdp_enabled() and cuda.math_sdp_enabled()
    assert not cuda.cudnn_sdp_enabled()


def settled(folder, given=0.0, begun=0.0, anew=False):
    """MODEL.MEMORY_GB of a start in a folder in which a run has `begun` with such a budget."""
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR, cfg.MODEL.MEMORY_GB = str(folder), begun
    if begun:
        write_config(folder, cfg, command="python train.py")
        (folder / "resume.pt").touch()
    cfg.MODEL.MEMORY_GB = given
    settle_memory(cfg, anew)
    return cfg.MODEL.MEMORY_GB


def test_the_budget_for_activations_is_settled_at_the_first_start_and_kept(tmp_path):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    default = default_budget(device)
    assert settled(tmp_path) == default > 0
    assert settled(tmp_path, given=0.5) == 0.5
    assert settled(tmp_path, begun=0.125) == 0.125
    assert settled(tmp_path, given=0.5, begun=0.125) == 0.5
    assert settled(tmp_path, begun=0.125, anew=True) == default


def test_a_run_of_a_version_without_budget_gets_one(tmp_path):
    (tmp_path / "config.yaml").write_text("MODEL: {BACKBONE: {NAME: demo}}\n")
    (tmp_path / "resume.pt").touch()
    assert settled(tmp_path) > 0
