"""A config that a plugin built from Dassl's own defaults works: our own keys are read with their defaults."""

import json
from pathlib import Path

import pytest
import torch
from plugins import SIZE, Linear, RedBlue
from yacs.config import CfgNode as YacsNode

from dassl.config import completed, flatten, get_cfg_default
from dassl.data import DataManager, DatasetWrapper, build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.evaluation import build_evaluator
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import set_random_seed

LIST = Path(__file__).parents[2] / "fixtures" / "config_defaults.json"


def dassl_defaults():
    """Dassl's tree of defaults, in yacs' own nodes."""
    cfg = YacsNode()
    for entry in json.loads(LIST.read_text(encoding="utf-8"))["keys"]:
        *parents, name = entry["key"].split(".")
        node = cfg
        for parent in parents:
            node = node.setdefault(parent, YacsNode())
        node[name] = tuple(entry["default"]) if entry["type"] == "tuple" else entry["default"]
    return cfg


@pytest.fixture
def cfg(folder):
    """Dassl's defaults with what a user of the small plugins sets, frozen as train.py freezes it."""
    cfg = dassl_defaults()
    cfg.merge_from_list(["DATASET.ROOT", f"{folder}/data", "DATASET.NAME", "RedBlue", "SEED", 1])
    cfg.merge_from_list(["OUTPUT_DIR", f"{folder}/run", "TRAINER.NAME", "Linear", "VERBOSE", False])
    cfg.merge_from_list(["INPUT.SIZE", (SIZE, SIZE), "INPUT.TRANSFORMS", ("random_flip", "normalize")])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 4])
    cfg.merge_from_list(["OPTIM.NAME", "sgd", "OPTIM.MAX_EPOCH", 2, "OPTIM.LR_SCHEDULER", "cosine"])
    cfg.freeze()
    return cfg


@TRAINER_REGISTRY.register()
class KeepsTheConfigItGot(Linear):
    """Reads its config before and after the engine does, and puts back the one it was given."""

    def __init__(self, cfg):
        self.learning_rate = cfg.OPTIM.LR
        super().__init__(cfg)
        self.cfg = cfg


@DATASET_REGISTRY.register()
class ReadsOurKeys(RedBlue):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.read = cfg.DATASET.FEWSHOT_LIST, cfg.DATASET.SUBSAMPLE_CLASSES


@pytest.mark.parametrize("trainer", ["Linear", "KeepsTheConfigItGot"])
@pytest.mark.parametrize("final_model", ["last_step", "best_val"])
def test_a_plugin_trains_tests_and_leaves_a_result(trainer, final_model, cfg):
    cfg.defrost()
    cfg.merge_from_list(["TRAINER.NAME", trainer, "TEST.FINAL_MODEL", final_model])
    cfg.freeze()
    before = flatten(cfg)
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    trainer.train()
    result = json.loads(Path(cfg.OUTPUT_DIR, "result.json").read_text())
    assert result["total"] == 6 and result["epoch"] is not None and result["protocol"] is None
    assert trainer.cfg.is_frozen() and cfg.is_frozen() and flatten(cfg) == before

    set_random_seed(cfg.SEED)
    again = build_trainer(cfg)
    again.load_model(cfg.OUTPUT_DIR)
    assert again.test() == result["accuracy"]


def test_the_numbers_are_those_of_the_engines_own_config(cfg, folder, build):
    def steps(config, name):
        config = config.clone()
        config.defrost()
        config.OUTPUT_DIR = f"{folder}/{name}"
        build(config).train()
        return Path(config.OUTPUT_DIR, "metrics.jsonl").read_text()

    own = get_cfg_default()
    own.merge_from_other_cfg(cfg)
    assert steps(cfg, "foreign") == steps(own, "own")


def test_the_parts_that_plugins_use_by_themselves_take_it(cfg):
    manager = DataManager(cfg)
    assert len(next(iter(manager.train_loader_x))["img"]) == 4
    transform = build_transform(cfg)
    loader = build_data_loader(cfg, "RandomSampler", manager.dataset.train_x, batch_size=4, tfm=transform)
    assert len(list(loader)) == 2
    assert DatasetWrapper(cfg, manager.dataset.train_x, transform, is_train=True)[0]["img"].shape[0] == 3
    assert build_evaluator(cfg, lab2cname=manager.lab2cname).cfg.TEST.SPLIT == "test"
    optimizer = build_optimizer(torch.nn.Linear(2, 1), cfg.OPTIM)
    assert build_lr_scheduler(optimizer, cfg.OPTIM).get_last_lr() == [cfg.OPTIM.LR]


def test_a_data_set_reads_the_keys_that_only_this_engine_has(cfg):
    cfg.defrost()
    cfg.DATASET.NAME = "ReadsOurKeys"
    assert build_dataset(cfg).read == ("", "all")


def test_a_config_is_completed_with_every_engine_key_and_keeps_its_own(cfg):
    cfg.defrost()
    cfg.TRAINER.MINE = YacsNode({"WIDTH": 3})
    del cfg.INPUT["RRCROP_SCALE"]  # older copies of Dassl lack it
    full = completed(cfg)
    assert not full.is_frozen() and "RUN" not in cfg
    assert flatten(get_cfg_default()).keys() - flatten(full).keys() == {
        key for key in flatten(get_cfg_default()) if key.startswith(("TRAINER.CG.", "TRAINER.MEANTEA."))
    }
    assert full.TRAINER.MINE.WIDTH == 3 and full.OPTIM.MAX_EPOCH == 2
    assert full.INPUT.RRCROP_SCALE == (0.08, 1.0) and full.DATALOADER.CACHE_GB == 2.0
    full.TRAIN.RECORD.append("gradient")
    assert completed(cfg).TRAIN.RECORD == []


def test_a_complete_config_stays_the_same_object():
    cfg = get_cfg_default()
    assert completed(cfg) is cfg
