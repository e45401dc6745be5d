"""The life cycle as plugins see it: hooks, models, schedules, files, printed lines."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from plugins import SIZE, Linear, make_cfg
from torch import nn

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, TrainerX, TrainerXU, build_trainer
from dassl.engine.trainer import TrainerBase
from dassl.modeling import BACKBONE_REGISTRY, Backbone, SimpleNet
from dassl.utils import close_logger, setup_logger

FIXTURES = Path(__file__).parents[2] / "fixtures"

TIME, METRIC = r"\d+\.\d{3} \(\d+\.\d{3}\)", r"\d+\.\d{4} \(\d+\.\d{4}\)"
PROGRESS_LINE = re.compile(
    rf"epoch \[(?P<epoch>\d+)/\d+\] batch \[(?P<batch>\d+)/(?P<batches>\d+)\] time {TIME} data {TIME} "
    rf"loss {METRIC} acc {METRIC} lr (?P<lr>\d\.\d{{4}}e-\d\d) eta \d+:\d\d:\d\d"
)


def test_a_run_trains_saves_tests_and_a_rerun_in_its_folder_only_tests(folder, build, capsys):
    cfg = make_cfg(folder)
    setup_logger(cfg.OUTPUT_DIR)
    try:
        build(cfg).train()
        first = capsys.readouterr().out
        trainer = build(cfg)
        trainer.train()
        second = capsys.readouterr().out
    finally:
        close_logger()

    lines = [PROGRESS_LINE.fullmatch(line) for line in first.splitlines() if line.startswith("epoch")]
    assert [(m["epoch"], m["batch"], m["batches"]) for m in lines] == [
        (e, b, "2") for e in "123" for b in "12"
    ]
    assert [m["lr"] for m in lines] == [  # the last batch of an epoch shows the next epoch's rate
        *("1.0000e-05", "2.0000e-03", "2.0000e-03", "1.5000e-03", "1.5000e-03", "5.0000e-04")
    ]
    printed = first.splitlines()
    assert printed.index("Finish training") + 1 == printed.index("Finished training")
    assert printed.index("Finished training") < printed.index("=> result")

    run = Path(cfg.OUTPUT_DIR)
    assert sorted(p.name for p in (run / "linear").iterdir()) == ["checkpoint", "model.pth.tar-3"]
    assert (run / "linear/checkpoint").read_text().strip() == "model.pth.tar-3"
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    assert trainer.start_epoch == 3 and "epoch [" not in second and "=> result" in second
    assert (run / "log.txt").read_text().count("=> result") == 2


def test_every_hook_of_a_plugin_is_called_in_order(folder, build):
    calls = []

    def recording(name):
        def method(self, *args, **kwargs):
            calls.append(name)
            return getattr(Linear, name)(self, *args, **kwargs)

        return method

    names = [
        *("check_cfg", "build_data_loader", "build_model", "before_train", "before_epoch", "run_epoch"),
        *("forward_backward", "parse_batch_train", "model_zero_grad", "model_backward", "model_update"),
        *("update_lr", "after_epoch", "after_train", "test", "before_test", "after_test"),
        *("parse_batch_test", "model_inference", "save_model", "resume_model_if_exist", "model_state"),
    ]
    Hooked = type("Hooked", (Linear,), {name: recording(name) for name in names})
    TRAINER_REGISTRY.register(Hooked, force=True)
    build(make_cfg(folder, "Hooked", OPTIM__MAX_EPOCH=1)).train()

    step = ["forward_backward", "parse_batch_train", "model_zero_grad", "model_backward", "model_update"]
    assert calls == [
        *("check_cfg", "build_data_loader", "build_model", "before_train", "resume_model_if_exist"),
        *("before_epoch", "run_epoch", *step, *step, "update_lr", "after_epoch", "model_state", "save_model"),
        *("model_state", "after_train", "test", "before_test", "parse_batch_test", "model_inference"),
        "after_test",
    ]


def test_a_plugin_may_replace_the_training_loop(folder, build):
    class OwnLoop(Linear):
        def train(self):
            self.before_train()
            for self.epoch in range(self.start_epoch, self.max_epoch):
                self.before_epoch()
                self.run_epoch()
                self.after_epoch()
            self.after_train()

    TRAINER_REGISTRY.register(OwnLoop, force=True)
    own, usual = (make_cfg(folder, name, OUTPUT_DIR=f"{folder}/{name}") for name in ("OwnLoop", "Linear"))
    build(own).train()
    build(usual).train()
    assert (
        Path(own.OUTPUT_DIR, "metrics.jsonl").read_text()
        == Path(usual.OUTPUT_DIR, "metrics.jsonl").read_text()
    )
    assert Path(own.OUTPUT_DIR, "result.json").is_file()


def test_two_models_have_their_own_optimizers_files_and_schedules(folder, build):
    cfg = make_cfg(folder, "TwoLinear")
    trainer = build(cfg)
    before = [model.weight.detach().clone() for model in trainer._models.values()]
    trainer.train()
    assert list(trainer._models) == list(trainer._optims) == list(trainer._scheds) == ["linear", "second"]
    for model, start, name in zip(trainer._models.values(), before, trainer._models, strict=True):
        assert not torch.equal(model.weight, start)
        assert Path(cfg.OUTPUT_DIR, name, "model.pth.tar-3").is_file()
        assert trainer.get_current_lr(name) == pytest.approx(5e-4)
    again = build(cfg)
    again.load_model(cfg.OUTPUT_DIR, epoch=3)
    assert torch.equal(again.second.weight, trainer.second.weight)


def test_a_trainer_with_its_own_amp_loop_trains(folder, build):
    trainer = build(make_cfg(folder, "AmpLinear"))
    trainer.train()
    assert trainer.scaler.get_scale() == 1024.0 * 4  # six good steps, growth every three


def test_steps_that_the_gradient_scaler_skips_are_counted_and_said(folder, build, capsys, recwarn):
    cfg = make_cfg(folder, "Overflowing", OPTIM__MAX_EPOCH=4, DATALOADER__TRAIN_X__BATCH_SIZE=10)
    setup_logger(cfg.OUTPUT_DIR)  # one batch per epoch: the first schedule's step follows a skipped one
    try:
        build(cfg).train()
    finally:
        close_logger()
    assert json.loads(Path(cfg.OUTPUT_DIR, "result.json").read_text())["skipped_steps"] == 3
    log = Path(cfg.OUTPUT_DIR, "log.txt").read_text()
    assert "Skipped steps, whose gradients were not finite: 3\n" in log
    assert "in epoch 4, batch 1; gradient scale 256 -> 128" in log and log.count("skipped step:") == 3
    assert "lr_scheduler.step()" not in "".join(str(warning.message) for warning in recwarn)


def test_the_default_model_is_on_one_device(folder, build, monkeypatch):
    class Pixels(Backbone):
        _out_features = 3 * SIZE * SIZE

        def forward(self, x):
            return x.flatten(1)

    monkeypatch.setattr(BACKBONE_REGISTRY, "_objects", {"Pixels": lambda **_: Pixels()})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    TRAINER_REGISTRY.register(type("Default", (TrainerX,), {}), force=True)
    trainer = build(make_cfg(folder, "Default", MODEL__BACKBONE__NAME="Pixels"))
    assert trainer.model is trainer._models["model"] and isinstance(trainer.model, SimpleNet)


def test_without_validation_images_the_best_epoch_is_chosen_on_the_test_set_and_said_so(
    folder, build, capsys
):
    cfg = make_cfg(folder, DATASET__NAME="RedBlueWithoutVal", TEST__FINAL_MODEL="best_val")
    trainer = build(cfg)
    assert trainer.val_loader is None
    trainer.train()
    printed = capsys.readouterr().out
    assert "the only images to validate on are test images; best_val chooses the epoch on them" in printed
    assert Path(cfg.OUTPUT_DIR, "linear/model-best.pth.tar").is_file()


def test_best_val_tests_the_epoch_with_the_best_validation_accuracy(folder, build):
    scores = iter([50.0, 75.0, 60.0])

    class Scripted(Linear):
        def test(self, split=None):
            return next(scores) if split == "val" else super().test(split)

    TRAINER_REGISTRY.register(Scripted, force=True)
    cfg = make_cfg(folder, "Scripted", TEST__FINAL_MODEL="best_val")
    build(cfg).train()
    result = json.loads(Path(cfg.OUTPUT_DIR, "result.json").read_text())
    assert result["epoch"] == 2 and result["split"] == "test"


def test_a_trainer_without_models_says_so_and_tests(folder, build, capsys):
    class Constant(TrainerX):
        def build_model(self):
            pass

        def model_inference(self, input):
            return torch.tensor([[1.0, 0.0]]).expand(len(input), -1)

    TRAINER_REGISTRY.register(Constant, force=True)
    cfg = make_cfg(folder, "Constant")
    build(cfg).train()
    assert "Constant has nothing to train" in capsys.readouterr().out
    result = json.loads(Path(cfg.OUTPUT_DIR, "result.json").read_text())
    assert (result["accuracy"], result["trainable_params"], result["total"]) == (50.0, 0, 6)


def test_only_registered_models_change_mode(folder, build):
    trainer = build(make_cfg(folder))
    trainer.frozen = nn.Linear(1, 1).eval()
    trainer.set_model_mode("train")
    assert trainer.model.training and not trainer.frozen.training
    trainer.set_model_mode("test")
    assert not trainer.model.training
    with pytest.raises(KeyError, match="unknown mode 'fast'"):
        trainer.set_model_mode("fast")


def test_registering_needs_a_built_base_and_a_free_name(folder, build):
    trainer = build(make_cfg(folder))
    with pytest.raises(ValueError, match="'linear' is registered already"):
        trainer.register_model("linear", trainer.model)
    with pytest.raises(ValueError, match="no model named 'linaer'.*linear"):
        trainer.get_model_names("linaer")
    with pytest.raises(AttributeError, match="super"):
        TrainerBase.__new__(TrainerBase).register_model("early", None)


def test_a_loss_that_is_not_finite_stops_the_run(folder, build):
    class Exploding(Linear):
        def forward_backward(self, batch):
            self.model_backward_and_update(self.model.weight.sum() * float("nan"))

    TRAINER_REGISTRY.register(Exploding, force=True)
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1"):
        build(make_cfg(folder, "Exploding")).train()


def test_an_unknown_trainer_is_named_with_the_nearest_one(folder):
    with pytest.raises(ValueError, match="'Linnear'.*did you mean 'Linear'"):
        build_trainer(make_cfg(folder, "Linnear"))


def test_unlabelled_training_is_refused_with_a_reason(folder):
    with pytest.raises(NotImplementedError, match="unlabelled"):
        TrainerXU(make_cfg(folder))


@pytest.mark.parametrize("case", json.loads((FIXTURES / "prograd_update.json").read_text())["results"])
def test_the_prograd_update_is_that_of_the_worked_example(case):
    example = json.loads((FIXTURES / "prograd_update.json").read_text())
    model = nn.ParameterDict({k: nn.Parameter(torch.tensor(v)) for k, v in example["initial"].items()})
    model["frozen"] = nn.Parameter(torch.ones(2), requires_grad=False)
    trainer = TrainerBase()
    trainer.register_model("m", model, torch.optim.SGD(model.parameters(), lr=0.1))

    def linear_loss(gradients):
        return sum((model[name] * torch.tensor(g)).sum() for name, g in gradients.items())

    trainer.prograd_backward_and_update(
        linear_loss(example["grad_a"]), linear_loss(example["grad_b"]), lambda_=case["lambda"]
    )
    for name, expected in case["updated"].items():
        torch.testing.assert_close(model[name].detach(), torch.tensor(expected), rtol=0, atol=1e-6)


def test_output_test_writes_the_logits_of_every_image(folder, build):
    cfg = make_cfg(folder)
    trainer = build(cfg)
    accuracy = trainer.output_test()
    outputs = json.loads(Path(cfg.OUTPUT_DIR, "output.json").read_text())
    right = [max(range(2), key=entry["predict"].__getitem__) == entry["gt"] for entry in outputs.values()]
    assert len(outputs) == 6 and accuracy == pytest.approx(100 * sum(right) / 6)


def test_training_on_test_images_is_refused_before_anything_is_written(folder, build):
    class Overlapping(DATASET_REGISTRY.get("RedBlue")):
        def __init__(self, cfg):
            super().__init__(cfg)
            self._train_x = [*self._train_x, self._test[0]]

    DATASET_REGISTRY.register(Overlapping, force=True)
    cfg = make_cfg(folder, DATASET__NAME="Overlapping")
    trainer = build(cfg)
    with pytest.raises(ValueError, match=r"1 of 11 training images are test images too, such as .*14\.png"):
        trainer.train()
    assert not Path(cfg.OUTPUT_DIR).exists()
    trainer.test()  # such a data set can still be tested on


def test_copies_of_few_shot_images_among_the_test_images_are_a_warning(folder, build, capsys):
    (folder / "data/15.png").write_bytes((folder / "data/01.png").read_bytes())
    build(make_cfg(folder, DATASET__NUM_SHOTS=5, OPTIM__MAX_EPOCH=1)).train()
    assert "15.png of " in capsys.readouterr().out


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_training_image_ends_the_run_before_its_first_step(workers, folder, build):
    picture = folder / "data/03.png"
    picture.write_bytes(picture.read_bytes()[:60])
    cfg = make_cfg(folder, DATALOADER__NUM_WORKERS=workers)
    trainer = build(cfg)
    trainer.forward_backward = lambda batch: pytest.fail("a step")
    with pytest.raises(
        OSError, match=r"^\S+03\.png cannot be read as an image \(.+\); replace or remove the file$"
    ):
        trainer.train()
    (folder / "data/05.png").write_bytes(b"")
    with pytest.raises(OSError, match=r"^2 training images cannot be read: \S+03\.png .*05\.png cannot"):
        build(cfg).train()
    assert not list(Path(cfg.OUTPUT_DIR).glob("**/*.pth.tar*"))


def test_images_beyond_the_limit_are_not_opened_before_training(folder, build, monkeypatch):
    opened = []
    trainer = build(make_cfg(folder, RUN__DIGEST_GB=0.0, DATALOADER__CACHE_GB=0.0))
    monkeypatch.setattr("dassl.data.data_manager.read_image", lambda path, **how: opened.append(path))
    trainer._open_training_images()
    assert opened == []
    trainer.cfg.RUN.DIGEST_GB = 1.0
    trainer._open_training_images()
    assert len(opened) == 10


def test_a_data_set_whose_class_says_so_stands_upright(folder, build):
    class Upright(DATASET_REGISTRY.get("RedBlue")):
        upright = True

    DATASET_REGISTRY.register(Upright, force=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees
    Image.new("RGB", (40, 20)).save(folder / "data/03.png", exif=exif)
    for name, size in (("Upright", (20, 40)), ("RedBlue", (40, 20))):
        loader = build(make_cfg(folder, DATASET__NAME=name)).train_loader_x
        loader.dataset.open_cache()
        for _ in range(2):
            assert loader.dataset._read(str(folder / "data/03.png")).size == size
        assert loader.dataset.cache.get(str(folder / "data/03.png")).size == size
