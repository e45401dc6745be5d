"""Registered models with their optimizers and schedules: files, one step, and the loop over epochs."""

import os
from collections import OrderedDict
from contextlib import nullcontext

import numpy as np
import torch

from dassl.run_folder import RESUME_POINT, epoch_of, find_checkpoint, has_resume_point, newest_checkpoint
from dassl.utils import (
    load_model_file,
    ranks,
    resume_from_checkpoint,
    save_checkpoint,
    shared_steps,
    tolist_if_not,
)
from dassl.utils.stop_signals import Stopped, deferred

from .resume import read_resume_point, restore
from .steps import check_finite


class TrainerBase:
    """Registered models with their optimizers and schedules, and the loop over epochs."""

    resume_interval = 30.0  # seconds: resume points between checkpoints are at least this far apart

    def __init__(self):
        self._models = OrderedDict()
        self._optims = OrderedDict()
        self._scheds = OrderedDict()
        self._writer = None
        self.metrics_log = None
        self.recorder = None  # of TRAIN.RECORD
        self.budget_steps = 0  # length of training in steps; 0: epochs count
        self.best_result = -np.inf
        self.seconds_train = 0.0
        self.skipped_steps = None  # steps that the gradient scaler left out, None while unknown
        self.inputs = None  # digests of what the run reads, for whoever compares them; kept in resume points
        self._resumed_from = None  # folder of the resume point that training goes on from
        self._position = None  # in the epoch, where that point stands in the middle of one
        self._in_engines_loop = False
        self._begun = False  # whether what comes before the first epoch is done
        self._step_watch = None  # of steps.py, while training
        self._tested_epoch = None  # finished epochs of the model that tests see, None while unknown

    @property
    def epoch(self) -> int:
        """Current epoch, counted from 0. Setting it tells the training loaders and the records."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self.settle_steps()
        self._epoch = value
        for name in ("train_loader_x", "train_loader_u"):
            sampler = getattr(getattr(self, name, None), "sampler", None)
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(value)
        if self._step_watch is not None:
            self._step_watch.begin_epoch(value)

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
        self.settle_steps()
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
            checkpoint = load_model_file(path)
            self.load_model_state(name, checkpoint["state_dict"])
            self._report_loaded(name, path, checkpoint)

    def epoch_to_load(self, directory, epoch=None) -> int | None:
        """The epoch for ``load_model``: None for the best model, which is what plugins of the family expect.

        An explicit epoch is returned as it is; without a best model it is the newest one saved.
        """
        if epoch is not None or not directory or not self._models:
            return epoch
        return epoch_of(find_checkpoint(os.path.join(directory, next(iter(self._models)))))

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
        if has_resume_point(directory):
            point = read_resume_point(self, directory)
            restore(self, point, directory)
            self._keep_memory_budget(point["memory_gb"])
            self._resumed_from, self._position = directory, point["position"]
            part = f", and {self._position['steps']} steps of the next" if self._position else ""
            path = os.path.join(directory, RESUME_POINT)
            print(f"Resuming from {path}: {point['epoch']} epochs are done{part}")
            return point["epoch"]
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

    def _keep_memory_budget(self, before: float | None):
        """Go on with the MODEL.MEMORY_GB of a resume point, unless another is given; then say so."""
        model = self.cfg.MODEL
        if not before or before == model.MEMORY_GB:
            return
        if not model.MEMORY_GB:
            self.cfg.defrost()
            model.MEMORY_GB = before
            self.cfg.freeze()
            return
        print(
            f"Warning: this run was begun with MODEL.MEMORY_GB {before:g} and goes on with "
            f"{model.MEMORY_GB:g}, so its last bits may differ from those of a run that was not interrupted"
        )

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
        if self._writer is not None or not ranks.is_first():
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
        """Run epochs ``start_epoch`` (or where ``before_train`` resumed) to ``max_epoch``.

        What the engine keeps (resume points, checkpoints, records) is done around the hooks, so a plugin that
        overrides a hook loses nothing. A signal stops the loop between two steps; a test, and an epoch
        that a plugin runs by itself, it ends at once.
        """
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        self._in_engines_loop, self._begun = True, False
        try:
            self.before_train()
            self._begin_training()
            shared_steps.copy_from_first(self._what_trains())
            with deferred():
                for self.epoch in range(self.start_epoch, self.max_epoch):
                    self.before_epoch()
                    with nullcontext() if self._may_stop_in_epoch() else deferred(False), ranks.sharing():
                        self.run_epoch()
                    self._end_steps()
                    self.after_epoch()
                    self._keep_epoch()
            self.after_train()
        except Stopped as stop:
            self._say_where(stop)
            raise
        finally:
            self._end_training()

    def _begin_training(self):
        """The engine's part of ``before_train``, which may have done it already."""

    def _may_stop_in_epoch(self) -> bool:
        """Whether ``run_epoch`` looks out for signals by itself."""
        return False

    def _end_steps(self):
        """The steps of the epoch are done."""
        self.settle_steps()
        self._tested_epoch = self.epoch + 1

    def _keep_epoch(self):
        """The epoch is over: keep what there is to keep, and stop here if a signal asks for it."""

    def _say_where(self, stop: Stopped):
        """Tell a signal that ended training at once what is kept."""

    def _end_training(self):
        """Close what is open, however training ended."""

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
        """Raise FloatingPointError if the loss is not finite.

        In a step of a training the next step finds out, or what saves something of this one (steps.py): so
        nobody waits for the device.
        """
        if self._step_watch is not None and self._step_watch.check_later(loss):
            return
        if not torch.isfinite(loss).all():
            check_finite(loss.item(), self.epoch + 1)

    def settle_steps(self):
        """Know the numbers of all steps so far; FloatingPointError if a loss is not finite."""
        if self._step_watch is not None:
            self._step_watch.settle()

    def model_zero_grad(self, names=None):
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss):
        self.detect_anomaly(loss)
        self.shared_backward(loss)

    def shared_backward(self, loss, retain_graph=False):
        """Take a loss back, of this rank's part of the batch: the gradients are those of the whole batch."""
        shared_steps.backward(loss, self._what_trains, retain_graph)

    def _what_trains(self) -> list[torch.Tensor]:
        """The parameters of registered models and optimizers that require a gradient, each once."""
        found = [p for model in self._models.values() if model is not None for p in model.parameters()]
        for optim in filter(None, self._optims.values()):
            found += [p for group in optim.param_groups for p in group["params"]]
        return [p for p in dict.fromkeys(found) if p.requires_grad]

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

        Per parameter tensor: ``a - lambda_ * <a, b/|b|> * b/|b|`` if ``<a, b> < 0``, else ``a``. The length
        of b does not matter, so ``loss_b`` may be scaled. Where b is not finite the step's gradient is NaN:
        an overflow of ``loss_b`` alone is one of the step, which a gradient scaler then skips.
        Source: Zhu et al. 2023 (ProGrad), section 3.3.
        """
        self.model_zero_grad(names)
        self.detect_anomaly(loss_b)
        self.shared_backward(loss_b, retain_graph=True)
        parameters = [p for name in self.get_model_names(names) for p in self._models[name].parameters()]
        general = [None if p.grad is None else p.grad.clone() for p in parameters]

        self.model_zero_grad(names)
        self.model_backward(loss_a)
        for parameter, b in zip(parameters, general, strict=True):
            if parameter.grad is None or b is None:
                continue
            length = b.norm()
            direction = b / torch.where(length == 0, 1, length)  # zeros where b is zero
            along = (parameter.grad * direction).sum()
            parameter.grad -= lambda_ * along.clamp(max=0) * direction  # NaN passes through clamp
        self.model_update(names)

    def update_lr(self, names=None):
        """One step of each schedule: plugins call it in the last step of an epoch.

        With a budget in steps the engine does it behind every step (steps.py), and their call does nothing.
        """
        if not (self.budget_steps and self._step_watch):
            self.step_schedules(names)

    def step_schedules(self, names=None):
        """One step of each schedule, whoever asks for it."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names=None):
        """Learning rate of the first parameter group of the first (given) model that has an optimizer."""
        optims = [self._optims[name] for name in self.get_model_names(names)]
        return next((optim.param_groups[0]["lr"] for optim in optims if optim is not None), 0.0)


class _StateAdapter:
    """Lets ``resume_from_checkpoint`` load a model through the trainer's own ``load_model_state``."""

    def __init__(self, trainer: TrainerBase, name: str):
        self._trainer = trainer
        self._name = name

    def load_state_dict(self, state: dict) -> None:
        self._trainer.load_model_state(self._name, state)
