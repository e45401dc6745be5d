"""The life cycle of training and testing that every trainer inherits, with Dassl's public interface.

A plugin subclasses :class:`TrainerX`, builds its model in ``build_model`` (and registers it), and returns
a loss summary from ``forward_backward``. Every other method may be overridden too; nothing that the life
cycle needs lives only inside ``train``.

On top of that interface: exact resume (resume.py), machine-readable records (records.py), and optional
hooks that do nothing unless a plugin implements them: ``before_test``, ``after_test``, ``model_state``,
``load_model_state``, ``extra_state``, ``load_extra_state``, ``describe``.
"""

import datetime
import os
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dassl.config.identity import config_digest
from dassl.data import DataManager
from dassl.evaluation import build_evaluator
from dassl.modeling import SimpleNet
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    count_num_param,
    find_checkpoint,
    load_checkpoint,
    load_pretrained_weights,
    mkdir_if_missing,
    newest_checkpoint,
    resume_from_checkpoint,
    save_checkpoint,
    tolist_if_not,
    write_json,
)

from .progress import Progress
from .records import MetricsLog, environment_record, fewshot_record, peak_memory_mb
from .resume import RESUME_FILE, load_resume_point, save_resume_point


def __getattr__(name):
    if (
        name == "SummaryWriter"
    ):  # TensorBoard takes a second to import: only runs that write events pay for it
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class TrainerBase:
    """Registered models with their optimizers and schedules, and the loop over epochs."""

    resume_interval = 30.0  # seconds: resume points between checkpoints are at least this far apart

    def __init__(self):
        self._models = OrderedDict()
        self._optims = OrderedDict()
        self._scheds = OrderedDict()
        self._writer = None
        self.metrics_log = None
        self.best_result = -np.inf
        self.seconds_train = 0.0

    @property
    def epoch(self) -> int:
        """Current epoch, counted from 0. Setting it tells the training loader, whose order depends on it."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch = value
        sampler = getattr(getattr(self, "train_loader_x", None), "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(value)

    # Registered models ------------------------------------------------------------------------------

    def register_model(self, name="model", model=None, optim=None, sched=None):
        """Put a model under the engine's care: train/eval mode, checkpoints, resume, schedule.

        Raises: AttributeError before ``super().__init__()`` ran; ValueError if the name is taken.
        """
        if "_models" not in self.__dict__:
            raise AttributeError("register_model() was called before super().__init__()")
        if name in self._models:
            raise ValueError(
                f"a model named {name!r} is registered already; give the second one another name"
            )
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names=None) -> list[str]:
        """All registered names in order, or the given one(s) as a list; ValueError for an unknown name."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        unknown = [name for name in names if name not in self._models]
        if unknown:
            raise ValueError(f"no model named {unknown[0]!r} is registered; registered: {list(self._models)}")
        return names

    def set_model_mode(self, mode="train", names=None):
        """Switch registered models to ``train``, or to ``eval`` (also called ``test``)."""
        if mode not in ("train", "eval", "test"):
            raise KeyError(f"unknown mode {mode!r}; choose 'train', 'eval' or 'test'")
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def model_state(self, name: str) -> dict:
        """State of a registered model as it goes into files. Override to save less than the whole module."""
        return self._models[name].state_dict()

    def load_model_state(self, name: str, state: dict) -> None:
        """Inverse of :meth:`model_state`; raises if a tensor is missing or unknown."""
        self._models[name].load_state_dict(state)

    # Files ------------------------------------------------------------------------------------------

    def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
        """Write each registered model to ``<directory>/<name>/``, as ``model.pth.tar-<epoch + 1>``."""
        for name in self.get_model_names():
            optim, sched = self._optims[name], self._scheds[name]
            save_checkpoint(
                {
                    "state_dict": self.model_state(name),
                    "epoch": epoch + 1,
                    "optimizer": optim.state_dict() if optim is not None else None,
                    "scheduler": sched.state_dict() if sched is not None else None,
                    "val_result": val_result,
                },
                os.path.join(directory, name),
                is_best=is_best,
                model_name=model_name,
            )

    def load_model(self, directory, epoch=None):
        """Load every registered model from a run folder: the given epoch, else the best one, else the newest.

        Raises: FileNotFoundError that lists the saved epochs.
        """
        if self._models and not directory:
            print("Note that load_model() is skipped as no pretrained model is given (--model-dir)")
            return
        for name in self.get_model_names():
            path = find_checkpoint(os.path.join(directory, name), epoch)
            checkpoint = load_checkpoint(path)
            self.load_model_state(name, checkpoint["state_dict"])
            self._report_loaded(name, path, checkpoint)

    def _report_loaded(self, name, path, checkpoint):
        self._tested_epoch = checkpoint["epoch"]
        val_result = checkpoint.get("val_result")
        suffix = f", validation result {val_result:.2f}" if val_result is not None else ""
        print(f"Loaded {name} from {path} (epoch {checkpoint['epoch']}{suffix})")

    def resume_model_if_exist(self, directory) -> int:
        """Continue from what ``directory`` holds and return the number of finished epochs, 0 for none.

        A resume point of this engine is exact; without one the newest checkpoint of every model is used.
        Raises: ValueError if the models stopped at different epochs.
        """
        if os.path.isfile(os.path.join(directory, RESUME_FILE)):
            epoch = load_resume_point(self, directory)
            print(f"Resuming from {os.path.join(directory, RESUME_FILE)}: {epoch} epochs are done")
            return epoch
        folders = {name: os.path.join(directory, name) for name in self.get_model_names()}
        if not folders or not all(newest_checkpoint(folder) for folder in folders.values()):
            print(f"No checkpoint found in {directory}, train from scratch")
            return 0
        epochs = {
            name: resume_from_checkpoint(
                folder, _StateAdapter(self, name), self._optims[name], self._scheds[name]
            )
            for name, folder in folders.items()
        }
        if len(set(epochs.values())) > 1:
            raise ValueError(
                f"the models in {directory} stopped at different epochs {epochs}; remove the newer files"
            )
        return next(iter(epochs.values()))

    # State that only some plugins have --------------------------------------------------------------

    def extra_state(self) -> dict:
        """What a plugin needs for exact resume beside its models: tensors, numbers, containers."""
        return {}

    def load_extra_state(self, state: dict) -> None:
        """Inverse of :meth:`extra_state`."""

    def describe(self) -> dict:
        """Fields that the trainer knows about itself, for result.json."""
        return {}

    # TensorBoard ------------------------------------------------------------------------------------

    def init_writer(self, log_dir):
        """Open the TensorBoard writer once; without TensorBoard installed, say so and go on."""
        if self._writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print("TensorBoard is not installed: no event files are written")
            return
        self._writer = SummaryWriter(log_dir=log_dir)

    def close_writer(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag, scalar_value, global_step=None):
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # The loop ---------------------------------------------------------------------------------------

    def train(self, start_epoch, max_epoch):
        """Run epochs ``start_epoch`` (or where ``before_train`` resumed) to ``max_epoch``."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self.before_train()
        for self.epoch in range(self.start_epoch, self.max_epoch):
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def before_train(self):
        pass

    def after_train(self):
        pass

    def before_epoch(self):
        pass

    def after_epoch(self):
        pass

    def before_test(self):
        """Called before a pass over test images, without gradients: a place to cache what they share."""

    def after_test(self):
        """Called after the pass, also when it failed."""

    def run_epoch(self):
        raise NotImplementedError

    def test(self):
        raise NotImplementedError

    def parse_batch_train(self, batch):
        raise NotImplementedError

    def parse_batch_test(self, batch):
        raise NotImplementedError

    def forward_backward(self, batch):
        raise NotImplementedError

    def model_inference(self, input):
        raise NotImplementedError

    # One optimisation step --------------------------------------------------------------------------

    def detect_anomaly(self, loss):
        """Raise FloatingPointError if the loss is not finite."""
        if not torch.isfinite(loss).all():
            raise FloatingPointError(
                f"the loss is {loss.item()} in epoch {self.epoch + 1}; lower OPTIM.LR, or use PREC fp32"
            )

    def model_zero_grad(self, names=None):
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss):
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names=None):
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss, names=None):
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def prograd_backward_and_update(self, loss_a, loss_b, lambda_=1, names=None):
        """Step along the gradient a of ``loss_a``, less what works against the gradient b of ``loss_b``.

        Per parameter tensor: ``a - lambda_ * <a, b/|b|> * b/|b|`` if ``<a, b> < 0``, else ``a``.
        Source: Zhu et al. 2023 (ProGrad), section 3.3.
        """
        self.model_zero_grad(names)
        self.detect_anomaly(loss_b)
        loss_b.backward(retain_graph=True)
        parameters = [p for name in self.get_model_names(names) for p in self._models[name].parameters()]
        general = [None if p.grad is None else p.grad.clone() for p in parameters]

        self.model_zero_grad(names)
        self.model_backward(loss_a)
        for parameter, b in zip(parameters, general, strict=True):
            if parameter.grad is None or b is None or not b.any():
                continue
            direction = b / b.norm()
            along = (parameter.grad * direction).sum()
            if along < 0:
                parameter.grad -= lambda_ * along * direction
        self.model_update(names)

    def update_lr(self, names=None):
        """One step of each schedule: plugins call it in the last step of an epoch."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names=None):
        """Learning rate of the first parameter group of the first (given) model."""
        name = self.get_model_names(names)[0]
        return self._optims[name].param_groups[0]["lr"]


class SimpleTrainer(TrainerBase):
    """Data, model, evaluator, checkpoints, tests and records of one run."""

    def __init__(self, cfg):
        super().__init__()
        self.check_cfg(cfg)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self._progress = None
        self._tested_epoch = None
        self._last_test = {}
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)

    def check_cfg(self, cfg):
        """Refuse a configuration the trainer cannot work with; ``self.cfg`` is not set yet."""

    def build_data_loader(self):
        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self):
        """The default: a backbone with a linear classifier. CLIP trainers override it."""
        cfg = self.cfg
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)
        if torch.cuda.device_count() > 1:
            self.model = nn.DataParallel(self.model)

    def train(self):
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self):
        cfg = self.cfg
        if not self._models:
            print(f"{cfg.TRAINER.NAME} has nothing to train")
            self.start_epoch = self.max_epoch
        else:
            self._warn_of_test_selection()
            self._open_records()
            self._resume()
        self.time_start = self._time_epoch = time.time()
        self._time_saved = time.monotonic()

    def _warn_of_test_selection(self):
        if self.cfg.TEST.FINAL_MODEL != "best_val" or self.cfg.TEST.NO_TEST:
            return
        dataset = self.dm.dataset
        if not dataset.val:
            print("Warning: there are no validation images, so best_val chooses the epoch on the test images")
        elif [item.impath for item in dataset.val] == [item.impath for item in dataset.test]:
            print("Warning: the validation images are the test images, so best_val chooses the epoch on them")

    def _open_records(self):
        mkdir_if_missing(self.output_dir)
        self.write_records()
        self.metrics_log = MetricsLog(self.output_dir)
        self.init_writer(os.path.join(self.output_dir, "tensorboard"))

    def _resume(self):
        cfg = self.cfg
        self.start_epoch = self.resume_model_if_exist(cfg.RESUME or self.output_dir)
        if cfg.RESUME and self.start_epoch == 0:
            raise FileNotFoundError(
                f"--resume {cfg.RESUME}: no checkpoint of {self.get_model_names()} is there; "
                "give the folder of a run, or leave --resume out to start from scratch"
            )
        self.metrics_log.keep_epochs(self.start_epoch)
        self._tested_epoch = self.start_epoch
        if self._checkpoint_due(self.start_epoch) and not self._is_saved(self.start_epoch):
            # The run was killed between writing its resume point and this checkpoint.
            self.save_model(self.start_epoch - 1, self.output_dir)

    def _is_saved(self, epoch: int) -> bool:
        return all(Path(self.output_dir, name, f"model.pth.tar-{epoch}").is_file() for name in self._models)

    def run_epoch(self):
        raise NotImplementedError

    def after_epoch(self):
        self._tested_epoch = self.epoch + 1
        self.seconds_train += time.time() - self._time_epoch
        checkpoint_due = self._checkpoint_due(self.epoch + 1)

        if not self.cfg.TEST.NO_TEST and self.cfg.TEST.FINAL_MODEL == "best_val":
            current = self.test(split="val")
            if current > self.best_result:
                self.best_result = current
                self.save_model(
                    self.epoch, self.output_dir, val_result=current, model_name="model-best.pth.tar"
                )

        # The resume point comes first: it is never older than a checkpoint beside it.
        if checkpoint_due or time.monotonic() - self._time_saved >= self.resume_interval:
            save_resume_point(self, self.output_dir, self.epoch + 1)
            self._time_saved = time.monotonic()
        if checkpoint_due:
            self.save_model(self.epoch, self.output_dir)
        self._time_epoch = time.time()

    def _checkpoint_due(self, finished_epochs: int) -> bool:
        freq = self.cfg.TRAIN.CHECKPOINT_FREQ
        in_rhythm = freq > 0 and finished_epochs % freq == 0
        return finished_epochs > 0 and (finished_epochs == self.max_epoch or in_rhythm)

    def after_train(self):
        if self._progress is not None:
            self._progress.close()
        print("Finish training\nFinished training")  # result parsers of the family look for one or the other
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val" and self._models:
                print("Deploy the model with the best val performance")
                self.load_model(self.output_dir)
            self.test()
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.time() - self.time_start))}")
        self.close_writer()
        if self.metrics_log is not None:
            self.metrics_log.close()
        self.save_result()

    # Testing ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def test(self, split=None) -> float:
        """Evaluate on ``split`` ("val" or "test", default ``TEST.SPLIT``); return the accuracy in percent."""
        started = time.time()
        self.set_model_mode("eval")
        self.evaluator.reset()
        split, loader = self._split_loader(split or self.cfg.TEST.SPLIT)
        print(f"Evaluate on the *{split}* set")
        self.before_test()
        try:
            for batch in tqdm(loader, unit="batch", dynamic_ncols=True, leave=False, disable=None):
                input, label = self.parse_batch_test(batch)
                self.evaluator.process(self.model_inference(input), label)
        finally:
            self.after_test()
        results = self.evaluator.evaluate()
        for key, value in results.items():
            self.write_scalar(f"{split}/{key}", value, self.epoch)
        self._last_test = {**results, "split": split, "seconds_test": time.time() - started}
        return next(iter(results.values()))

    def _split_loader(self, split):
        if split == "val" and self.val_loader is not None:
            return "val", self.val_loader
        return "test", self.test_loader

    @torch.no_grad()
    def output_test(self, split=None) -> float:
        """Like :meth:`test`, and write the logits of every image to ``output.json``."""
        outputs = {}
        self.set_model_mode("eval")
        self.evaluator.reset()
        split, loader = self._split_loader(split or self.cfg.TEST.SPLIT)
        self.before_test()
        try:
            for batch in loader:
                input, label = self.parse_batch_test(batch)
                logits = self.model_inference(input)
                self.evaluator.process(logits, label)
                for path, row, truth in zip(batch["impath"], logits.tolist(), label.tolist(), strict=True):
                    outputs[path] = {"predict": row, "gt": truth}
        finally:
            self.after_test()
        write_json(outputs, os.path.join(self.output_dir, "output.json"))
        return next(iter(self.evaluator.evaluate().values()))

    def model_inference(self, input):
        return self.model(input)

    def parse_batch_test(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    # Records ----------------------------------------------------------------------------------------

    def write_records(self):
        """Write environment.json and fewshot.json into the run folder."""
        dataset = self.dm.dataset
        write_json(
            environment_record(dataset, self.cfg, self.device),
            os.path.join(self.output_dir, "environment.json"),
        )
        write_json(fewshot_record(dataset, self.cfg), os.path.join(self.output_dir, "fewshot.json"))

    def result(self) -> dict:
        """Everything a table needs to know about this run: unrounded percentages, None where unknown."""
        cfg, test = self.cfg, self._last_test
        tested = bool(test)
        fields = {
            "protocol": cfg.RUN.PROTOCOL or None,
            "dataset_file": cfg.RUN.DATASET_FILE or None,
            "dataset": cfg.DATASET.NAME,
            "trainer": cfg.TRAINER.NAME,
            "backbone": cfg.MODEL.BACKBONE.NAME or None,
            "precision": None,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
            "split": test.get("split"),
            "num_classes": self.num_classes,
            "template": None,
            "trainable_params": self._trainable_params(),
            "epoch": self._tested_epoch,
            "max_epoch": self.max_epoch,
            "train_images": len(self.dm.dataset.train_x),
            "total": self.evaluator._total if tested else None,
            "correct": self.evaluator._correct if tested else None,
            "accuracy": test.get("accuracy"),
            "error_rate": test.get("error_rate"),
            "macro_f1": test.get("macro_f1"),
            "extras": [],
            "seconds_train": self.seconds_train or None,
            "seconds_test": test.get("seconds_test"),
            "peak_memory_mb": peak_memory_mb(self.device),
            "config_digest": config_digest(cfg),
            "model_dir": cfg.RUN.MODEL_DIR or None,
            "load_epoch": cfg.RUN.LOAD_EPOCH if cfg.RUN.LOAD_EPOCH >= 0 else None,
        }
        return {**fields, **self.describe()}

    def save_result(self):
        """Write result.json, which marks the run as finished, and drop the resume point it supersedes."""
        mkdir_if_missing(self.output_dir)
        if not os.path.isfile(os.path.join(self.output_dir, "environment.json")):
            self.write_records()
        write_json(self.result(), os.path.join(self.output_dir, "result.json"))
        Path(self.output_dir, RESUME_FILE).unlink(missing_ok=True)

    def _trainable_params(self) -> int:
        return sum(p.numel() for m in self._models.values() for p in m.parameters() if p.requires_grad)


class TrainerX(SimpleTrainer):
    """A trainer over labelled images only: the base of every method here."""

    def run_epoch(self):
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        self.num_batches = len(self.train_loader_x)
        if self._progress is None:
            self._progress = Progress(self.epoch * self.num_batches, self.max_epoch * self.num_batches)

        end = time.time()
        for self.batch_idx, batch in enumerate(self.train_loader_x):
            data_time.update(time.time() - end)
            lr = self.get_current_lr()
            summary = _plain_numbers(self.forward_backward(batch))
            batch_time.update(time.time() - end)
            losses.update(summary)

            line_due = (self.batch_idx + 1) % self.cfg.TRAIN.PRINT_FREQ == 0
            line_due = line_due or self.num_batches < self.cfg.TRAIN.PRINT_FREQ
            self._progress.step(self, losses, batch_time, data_time, line_due)
            self._record_step(lr, summary, losses)
            end = time.time()

    def _record_step(self, lr, summary, losses):
        if self.metrics_log is not None:
            self.metrics_log.append(
                {"epoch": self.epoch + 1, "batch": self.batch_idx + 1, "lr": lr, **summary}
            )
        step = self.epoch * self.num_batches + self.batch_idx
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, step)
        self.write_scalar("train/lr", self.get_current_lr(), step)

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device), batch["domain"].to(self.device)


class TrainerXU(SimpleTrainer):
    """Labelled and unlabelled images together: not provided."""

    def __init__(self, cfg):
        raise NotImplementedError(
            f"{type(self).__name__} needs unlabelled images (TrainerXU), which this engine does not provide; "
            "subclass TrainerX"
        )


def _plain_numbers(summary: dict | None) -> dict[str, float]:
    """A loss summary of floats and 0-d tensors, as floats."""
    values = (summary or {}).items()
    return {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in values}


class _StateAdapter:
    """Lets ``resume_from_checkpoint`` load a model through the trainer's own ``load_model_state``."""

    def __init__(self, trainer: TrainerBase, name: str):
        self._trainer = trainer
        self._name = name

    def load_state_dict(self, state: dict) -> None:
        self._trainer.load_model_state(self._name, state)
