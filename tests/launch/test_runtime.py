"""What a run settles for itself, whatever ran in its process before."""

import pytest
import torch

from dassl.config import get_cfg_default
from launch.runtime import prepare

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
