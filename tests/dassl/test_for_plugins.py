"""Names that files written for Dassl import, under the paths by which they import them."""

import re
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import dassl
from dassl.data.datasets import DatasetBase, Datum

ENGINE = Path(dassl.__file__).parent

# What trainers and data sets of the family import, and Dassl's further public names for image classification.
PUBLIC = {
    "dassl.config": "clean_cfg get_cfg_default",
    "dassl.data": "DataManager DatasetWrapper build_data_loader",
    "dassl.data.data_manager": "build_data_loader",
    "dassl.data.datasets": "DATASET_REGISTRY DatasetBase Datum build_dataset",
    "dassl.data.datasets.base_dataset": "Datum",
    "dassl.data.samplers": """
        RandomClassSampler RandomDomainSampler RandomSampler SeqDomainSampler SequentialSampler
        build_sampler""",
    "dassl.data.transforms": "INTERPOLATION_MODES build_transform",
    "dassl.data.transforms.transforms": """
        Cutout GaussianNoise InstanceNormalization INTERPOLATION_MODES build_transform""",
    "dassl.engine": """
        TRAINER_REGISTRY SimpleNet SimpleTrainer TrainerBase TrainerX TrainerXU build_trainer""",
    "dassl.engine.trainer": """
        AverageMeter MetricMeter SimpleNet SimpleTrainer SummaryWriter TrainerBase TrainerX TrainerXU""",
    "dassl.evaluation": "EVALUATOR_REGISTRY Classification EvaluatorBase build_evaluator",
    "dassl.metrics": "compute_accuracy",
    "dassl.modeling": """
        BACKBONE_REGISTRY HEAD_REGISTRY NETWORK_REGISTRY Backbone build_backbone build_head build_network""",
    "dassl.optim": "build_lr_scheduler build_optimizer",
    "dassl.optim.lr_scheduler": "ConstantWarmupScheduler LinearWarmupScheduler build_lr_scheduler",
    "dassl.optim.optimizer": "build_optimizer",
    "dassl.optim.radam": "RAdam",
    "dassl.utils": """
        AverageMeter Logger MetricMeter Registry check_availability check_isfile collect_env_info
        count_num_param download_url get_most_similar_str_to_a_from_b listdir_nohidden load_checkpoint
        load_pretrained_weights mkdir_if_missing open_all_layers open_specified_layers read_image read_json
        resume_from_checkpoint save_checkpoint set_random_seed setup_logger tolist_if_not write_json""",
    "dassl.utils.tools": """
        check_availability check_isfile collect_env_info download_url get_most_similar_str_to_a_from_b
        listdir_nohidden mkdir_if_missing read_image read_json set_random_seed tolist_if_not write_json""",
    "dassl.utils.torchtools": """
        count_num_param load_checkpoint load_pretrained_weights open_all_layers open_specified_layers
        resume_from_checkpoint save_checkpoint""",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_plugins_find_every_public_name(module):
    for name in PUBLIC[module].split():
        assert hasattr(import_module(module), name), name


def test_the_package_says_what_is_there_for_plugins_only():
    listed = set(re.findall(r"^    ([\w/]+(?:\.py|/)) ", dassl.__doc__, re.MULTILINE))
    files = {path.relative_to(ENGINE).as_posix() for path in ENGINE.rglob("for_plugins.py")}
    says_so = {
        path.relative_to(ENGINE).as_posix()
        for path in ENGINE.rglob("*.py")
        if path.read_text(encoding="utf-8").startswith('"""For plugins:')
    }
    packages = {f"{Path(name).parent.as_posix()}/" for name in says_so if name.endswith("__init__.py")}
    assert files <= says_so
    assert listed - {"optim/radam.py"} == {name for name in says_so if "__init__" not in name} | packages


def test_a_data_set_may_fetch_its_own_archive(tmp_path):
    source = tmp_path / "there" / "images.zip"
    source.parent.mkdir()
    with zipfile.ZipFile(source, "w") as file:
        file.writestr("cat/1.jpg", "a cat")
    (tmp_path / "0.jpg").touch()
    dataset = DatasetBase(train_x=[Datum(str(tmp_path / "0.jpg"), classname="cat")])

    dataset.download_data(source.as_uri(), str(tmp_path / "here" / "images.zip"), from_gdrive=False)
    assert (tmp_path / "here" / "cat" / "1.jpg").read_text() == "a cat"
    with pytest.raises(ValueError, match=r"is no .zip, .tar"):
        dataset.download_data(source.as_uri(), str(tmp_path / "here" / "images.7z"), from_gdrive=False)
