"""A small CLIP on disk and trainers built over the embedded data, as train.py builds them."""

import functools
from pathlib import Path

import pytest
import torch

import datasets  # noqa: F401 - registers
import trainers  # noqa: F401
from clipfit import architectures
from clipfit.modules import OpenAIModel
from clipfit.tokenizer import VOCABULARY_SIZE
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import set_random_seed
from launch.arguments import parse_args
from launch.registered import explicit_name
from launch.resolve import resolve, settle_input

PROJECT = Path(__file__).parents[2]
SMALL = "small.pt"


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory):
    """Checkpoint of a CLIP in OpenAI's layout: three blocks per tower, no tensor at a special value."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OpenAIModel(32, 48, 3, 64, 8, 77, VOCABULARY_SIZE, 64, 1, 3)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.03 * torch.randn_like(parameter)
            model.logit_scale.fill_(3.0)
    state = {name: tensor.half().float() for name, tensor in model.state_dict().items()}
    path = tmp_path_factory.mktemp("clip") / SMALL
    torch.save(state, path)
    return path


def own_contract(trainer, keys=""):
    """The settings under which a method keeps the contract quickly; those of the keys that begin so."""
    settings = TRAINER_REGISTRY.get(trainer).contract
    return [str(word) for setting in settings.items() if setting[0].startswith(keys) for word in setting]


_random_model = functools.cache(architectures.build_random)


@pytest.fixture
def shared_random_weights(monkeypatch):
    """Draw the weights of a random backbone once for all tests, which must not depend on their values."""
    monkeypatch.setattr(architectures, "build_random", _random_model)


@pytest.fixture
def build(demo_root, tmp_path):
    """Build a trainer on the base classes of ``demo`` from flags and pairs; augmentation is off."""

    def _build(trainer, *words, transforms="('normalize',)"):
        argv = [
            *(
                "--trainer",
                explicit_name("trainers", trainer),
                "--protocol",
                "base2new",
                "--seed",
                "1",
                "--root",
                str(demo_root),
            ),
            *("--dataset-config-file", str(PROJECT / "configs/datasets/demo.yaml")),
            *("--output-dir", str(tmp_path / "run")),
            *(word for word in map(str, words) if word.startswith("--")),
        ]
        pairs = [str(word) for word in words if not str(word).startswith("--")]
        defaults = ["VERBOSE", "False", "DATALOADER.NUM_WORKERS", "0", "INPUT.TRANSFORMS", transforms]
        if any(word.endswith(SMALL) for word in argv):
            defaults += own_contract(trainer, "TRAINER.")  # it has three blocks
        cfg = resolve(parse_args([*argv, *defaults, *pairs])).cfg
        settle_input(cfg)
        for node in cfg.TRAINER.values():
            if isinstance(node, dict) and node.get("PREC") == "auto":
                node.PREC = "fp32"
        cfg.freeze()
        set_random_seed(cfg.SEED)
        return build_trainer(cfg)

    return _build
