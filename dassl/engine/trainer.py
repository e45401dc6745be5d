"""The life cycle of training and testing that every trainer inherits, with Dassl's public interface.

A plugin subclasses :class:`TrainerX`, builds its model in ``build_model`` (and registers it), and returns
a loss summary from ``forward_backward``. Every other method may be overridden too; nothing that the life
cycle needs lives only inside ``train``.

On top of that interface: exact resume (resume.py), machine-readable files (run_files.py, steps.py), and
optional hooks that do nothing unless a plugin implements them: ``before_test``, ``after_test``,
``model_state``, ``load_model_state``, ``extra_state``, ``load_extra_state``, ``describe``.
"""

import datetime
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from dassl.config import completed
from dassl.config.identity import config_digest
from dassl.data import DataManager
from dassl.data.data_manager import PersistentLoader, open_images
from dassl.data.datasets import validates_on_test
from dassl.data.datasets.same_images import same_files, warnings_of_copies
from dassl.data.passes import EpochSampler
from dassl.evaluation import build_evaluator
from dassl.modeling import SimpleNet
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.run_folder import (
    BEST,
    FEWSHOT,
    LOGITS,
    METRICS,
    RESUME_POINT,
    TENSORBOARD,
    has_best,
    has_checkpoints,
    has_resume_point,
    read_command,
    read_result,
    read_starts,
    remove_predictions,
    settle_records,
    take_over,
    write_config,
    write_result,
    write_start,
)
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    count_num_param,
    load_pretrained_weights,
    mkdir_if_missing,
    ranks,
    shared_steps,
    write_json,
)
from dassl.utils.stop_signals import Stopped, agree, deferred, number_of_signal, requested

from .predicting import parts_in_order, predictions_of
from .progress import Progress, ShownStep
from .recording import Recorder, check_kinds
from .resume import read_resume_point, restore, save_resume_point
from .run_files import StepLog, fewshot_file, peak_memory_mb, reset_peak_memory, start_line
from .steps import LateNumbers, StepWatch
from .trainer_base import TrainerBase


def __getattr__(name):
    # TensorBoard takes a second to import: only runs that write events pay for it.
    if name == "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SimpleTrainer(TrainerBase):
    """Data, model, evaluator, checkpoints, tests and files of one run."""

    version = 1  # of a trainer's results: raised whenever the same config gives other numbers than before
    inputs = None  # digests of what the run reads, set by a launcher that took them
    train_files = None  # relative path -> sha256 of every image trained on, likewise

    def __init__(self, cfg):
        super().__init__()
        cfg = completed(cfg)
        check_kinds(cfg.TRAIN.RECORD)
        self.check_cfg(cfg)
        ranks.settle_device(cfg.USE_CUDA)
        self.device = torch.device("cuda" if cfg.USE_CUDA and torch.cuda.is_available() else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch, self.budget_steps = cfg.OPTIM.MAX_EPOCH, cfg.OPTIM.MAX_STEPS
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self._progress = None
        self._last_test = {}
        self.time_start = time.time()  # Dassl's: what plugins subtract from time.time()
        self._clock = None  # time.monotonic() since which seconds_train grows, None while it stands
        self._time_begun = self._time_saved = time.monotonic()
        self._saved = None  # (epochs, steps of the next) that a new start goes on from, None while unknown
        self._validated = False  # since the last step
        self._in_final_test = False
        self._starts = 0  # of this run, counted once this one is written down
        reset_peak_memory(self.device)
        with ranks.first_then_others():
            self.build_data_loader()
        if self.budget_steps and self.train_loader_x:
            self.max_epoch = math.ceil(self.budget_steps / len(self.train_loader_x))
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)

    @property
    def cfg(self):
        """The config, with every engine key whatever a plugin assigns."""
        return self._cfg

    @cfg.setter
    def cfg(self, cfg):
        self._cfg = completed(cfg)

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
        """The default: a backbone with a linear classifier, on one GPU. CLIP trainers override it."""
        cfg = self.cfg
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    @property
    def resumed(self) -> bool:
        """Whether training goes on from what an earlier start has left."""
        return self.start_epoch > 0 or self._resumed_from is not None

    def train(self):
        super().train(self.start_epoch, self.max_epoch)

    def before_train(self):
        self._end_training()  # of this trainer, if there was one before
        if not self._models:
            print(f"{self.cfg.TRAINER.NAME} has nothing to train")
            self.start_epoch = self.max_epoch
        else:
            self._check_budget()
            self._check_graph()
            self._check_ranks()
            self.refuse_test_images()
            self._warn_of_test_selection()
            self._note_incomplete_batch()
            self._go_on()
            self._open_training_images()
        self._begun = True
        self.time_start = time.time()
        self._time_begun = self._time_saved = self._clock = time.monotonic()

    def _begin_training(self):
        if not self._begun:  # a plugin's own hook has left it out
            SimpleTrainer.before_train(self)
        if self._resumed_from and not self._is_engines("before_train"):
            # Where the plugin's hook drew random numbers, or set tensors as for a start from scratch.
            restore(self, read_resume_point(self, self._resumed_from), self._resumed_from)

    def refuse_test_images(self):
        """Raise ValueError if a file to train on is a test image too. Runs before every training.

        Copies of few-shot images among the test images are a warning: published data sets have some.
        """
        dataset, name = self.dm.dataset, self.cfg.DATASET.NAME
        if shared := same_files(dataset.train_x, dataset.test):
            first, other = min(shared.items())
            raise ValueError(
                f"{name}: {len(shared):,} of {len(dataset.train_x):,} training images are test images too, "
                f"such as {first}{'' if first == other else f', which is {other}'}; "
                "a data set like that is for --eval-only"
            )
        if self.cfg.DATASET.NUM_SHOTS >= 1 or self.cfg.DATASET.FEWSHOT_LIST:
            for line in warnings_of_copies(dataset.train_x, dataset.test):
                print(f"Warning: {name}: {line}")

    def _open_training_images(self):
        """Decode what is trained on, before the first step; a run that goes on did so before."""
        if not self.resumed and self.start_epoch < self.max_epoch:
            limit = self.cfg.RUN.DIGEST_GB * 1e9
            open_images(self.train_loader_x, self.dm.dataset.train_x, limit)

    def _check_budget(self):
        if self.budget_steps and not self._is_engines("run_epoch"):
            raise ValueError(
                f"OPTIM.MAX_STEPS is {self.budget_steps:,}, and {self.cfg.TRAINER.NAME} runs its epochs by "
                "itself, so nobody can end one where the budget ends; leave it 0 and give OPTIM.MAX_EPOCH"
            )

    def _check_graph(self):
        if self.cfg.TRAIN.CUDA_GRAPH and (reason := self.why_no_graph()):
            raise ValueError(
                f"TRAIN.CUDA_GRAPH is True, but {self.cfg.TRAINER.NAME} {reason}; leave it False"
            )

    def why_no_graph(self) -> str:
        """Why the steps of this trainer cannot be a CUDA graph; empty if they can (TRAIN.CUDA_GRAPH)."""
        return "takes its steps in a way of its own (forward_backward)"

    def _check_ranks(self):
        """A batch is shared where the loader is ours; of another one every rank has it whole."""
        is_ours = isinstance(self.train_loader_x, PersistentLoader)
        size = self.train_loader_x.batch_size if is_ours else None
        if self.start_epoch < self.max_epoch and size is not None and size < ranks.size():
            raise ValueError(
                f"DATALOADER.TRAIN_X.BATCH_SIZE is {size}, and {ranks.size()} ranks share each batch: "
                f"start at most {size} (torchrun --nproc-per-node {size}), or give it {ranks.size()} or more"
            )

    def _warn_of_test_selection(self):
        chosen = self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST
        if chosen and validates_on_test(self.dm.dataset):
            print(
                "Warning: the only images to validate on are test images; best_val chooses the epoch on them"
            )

    def _note_incomplete_batch(self):
        settings = self.cfg.DATALOADER.TRAIN_X
        images, size = len(self.dm.dataset.train_x), settings.BATCH_SIZE
        left = images % size
        if settings.SAMPLER != "RandomSampler" or not left:
            return
        if images < size:
            print(f"Note: {images:,} training images are fewer than a batch of {size}: each step takes all")
        elif getattr(self.train_loader_x, "drop_last", False):
            print(
                f"Note: {images:,} training images are no multiple of the batch size {size}: each epoch "
                f"leaves out {left} of them, drawn anew"
            )

    def _go_on(self):
        """Open the records, and load what this run or the one that ``--resume`` names has left."""
        resumed = "" if has_resume_point(self.output_dir) else self.cfg.RESUME
        past = resumed or self.output_dir
        with ranks.first_then_others():
            if ranks.is_first():
                settle_records(self.output_dir, past, self.cfg.TRAIN.RECORD, self._models)
                self._open_run_files()
        self.start_epoch = self.resume_model_if_exist(past)
        if resumed and not self.resumed:
            raise FileNotFoundError(
                f"--resume {resumed}: no checkpoint of {self.get_model_names()} is there; "
                "give the folder of a run, or leave --resume out to start from scratch"
            )
        if self._position and not self._may_stop_in_epoch():
            raise ValueError(
                f"{past}/{RESUME_POINT} stands in the middle of an epoch, and this trainer runs its epochs "
                "by itself; delete that file to go on from the newest checkpoint"
            )
        if ranks.is_first():
            take_over(past, self.output_dir, self.cfg.TRAIN.RECORD)
        self._saved = self.start_epoch, self._position["steps"] if self._position else 0
        for log in filter(None, (self.metrics_log, self.recorder)):
            log.keep(*self._saved)
        self._step_watch = StepWatch(self, *self._saved)
        if getattr(self, "scaler", None) is not None:
            # torch warns of a schedule that steps before its optimizer, whose step a scaler may skip.
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before", UserWarning)
        self._tested_epoch = self.start_epoch
        saved = self._position or has_checkpoints(self.output_dir, self._models, self.start_epoch)
        if self._checkpoint_due(self.start_epoch) and not saved:
            # The run was killed between writing its resume point and this checkpoint.
            self.save_model(self.start_epoch - 1, self.output_dir)

    def _open_run_files(self):
        mkdir_if_missing(self.output_dir)
        self.write_run_files()
        self.metrics_log = StepLog(Path(self.output_dir, METRICS))
        if kinds := self.cfg.TRAIN.RECORD:
            self.recorder = Recorder(self._models, self._optims, self.output_dir, kinds)
        self.init_writer(os.path.join(self.output_dir, TENSORBOARD))

    def run_epoch(self):
        raise NotImplementedError

    def _end_steps(self):
        super()._end_steps()
        self._stop_clock()
        self._validated = False

    def after_epoch(self):
        self._stop_clock()
        self._choose_best()
        if not self._in_engines_loop:
            self._keep_epoch()

    def _stop_clock(self):
        """Count the time since the clock was set as training, once."""
        if self._clock is not None:
            self.seconds_train += time.monotonic() - self._clock
            self._clock = None

    def _choose_best(self):
        """Validate, and keep the model if it is the best so far."""
        if self.cfg.TEST.NO_TEST or self.cfg.TEST.FINAL_MODEL != "best_val":
            return
        current = self.test(split="val")
        self._validated = True  # also where a plugin's own test does not say so
        if current > self.best_result:
            self.best_result = current
            self.save_model(self.epoch, self.output_dir, val_result=current, model_name=BEST)

    def _best_is_the_plugins(self) -> bool:
        """Whether a plugin's ``after_epoch`` keeps a best model by a measure of its own."""
        return self.best_result == -math.inf and has_best(self.output_dir, self._models)

    def _keep_epoch(self):
        """Behind ``after_epoch``, whosever it is: best model, resume point, checkpoint."""
        if not self._validated and not self._best_is_the_plugins():
            self._choose_best()
        finished = self.epoch + 1
        agree(shared_steps.means(None, number_of_signal())[1])
        checkpoint_due, asked = self._checkpoint_due(finished), requested()
        # The resume point comes first: it is never older than a checkpoint beside it.
        if checkpoint_due or asked or time.monotonic() - self._time_saved >= self.resume_interval:
            self._save_point(finished)
        if checkpoint_due:
            self.save_model(self.epoch, self.output_dir)
        if asked:
            ranks.barrier()  # the point is written
            raise Stopped(asked, _after(finished, 0), "goes on there")
        self._clock = time.monotonic()

    def _save_point(self, epochs: int, position: dict | None = None):
        self.settle_steps()
        save_resume_point(self, self.output_dir, epochs, position)
        self._saved = epochs, position["steps"] if position else 0
        self._time_saved = time.monotonic()

    def _say_where(self, stop: Stopped):
        if self._saved is None or stop.where:
            return
        stop.then = _goes_on(*self._saved)
        if self._clock is not None and not self._may_stop_in_epoch():
            stop.where = f"in epoch {self.epoch + 1}, which the trainer runs by itself"

    def _may_stop_in_epoch(self) -> bool:
        """Whether epochs are the engine's, so that a later start can go on behind any of their steps."""
        return (
            self._in_engines_loop
            and self._is_engines("run_epoch")
            and self._is_engines("before_epoch")
            and self.train_loader_u is None
            and _can_go_on(self.train_loader_x)
        )

    def _is_engines(self, method: str) -> bool:
        """Whether no plugin overrides a method of the life cycle."""
        engines = {getattr(kind, method) for kind in (TrainerBase, SimpleTrainer, TrainerX)}
        return getattr(type(self), method) in engines and method not in self.__dict__

    def _checkpoint_due(self, finished_epochs: int) -> bool:
        freq = self.cfg.TRAIN.CHECKPOINT_FREQ
        in_rhythm = freq > 0 and finished_epochs % freq == 0
        return finished_epochs > 0 and (finished_epochs == self.max_epoch or in_rhythm)

    def after_train(self):
        if self._progress is not None:
            self._progress.close()
        if self.skipped_steps:
            print(f"Skipped steps, whose gradients were not finite: {self.skipped_steps:,}")
        print("Finish training\nFinished training")  # result parsers of the family look for one or the other
        ranks.barrier()  # rank 0 has written its files
        if not self.cfg.TEST.NO_TEST:
            if self.cfg.TEST.FINAL_MODEL == "best_val" and self._models:
                print("Deploy the model with the best val performance")
                self._tested_epoch = None  # which one it is, load_model says
                self.load_model(self.output_dir)
            self.final_test()
        print(f"Elapsed: {datetime.timedelta(seconds=round(time.monotonic() - self._time_begun))}")
        self._end_training()
        self.save_result()

    def _end_training(self):
        watch, self._step_watch = self._step_watch, None
        try:
            if watch is not None:
                watch.close()
        finally:
            if self._progress is not None:
                self._progress.close()
            self.close_writer()
            for log in filter(None, (self.metrics_log, self.recorder)):
                log.close()
            self._progress = self._clock = self._resumed_from = self._position = None

    # Testing ----------------------------------------------------------------------------------------

    def final_test(self):
        """The test whose numbers the result holds; of a plugin's own ``test`` the accuracy it returns."""
        self._last_test = {}
        self._write_start()
        if ranks.is_first():
            remove_predictions(self.output_dir)
        self._in_final_test = True
        try:
            accuracy = self.test()
        finally:
            self._in_final_test = False
        if not self._last_test and accuracy is not None:
            self._last_test = {"accuracy": float(accuracy)}

    def test(self, split=None) -> float:
        """Evaluate on ``split`` ("val" or "test", default ``TEST.SPLIT``); return the accuracy in percent."""
        started = time.monotonic()
        if split == "val":
            self._validated = True
        split, loader = self._split_loader(split or self.cfg.TEST.SPLIT)
        print(f"Evaluate on the *{split}* set")
        with deferred(False), predictions_of(self, split) as keep:
            for logits, label, batch in self._infer(tqdm(loader, unit="batch", leave=False, disable=None)):
                self.evaluator.process(logits, label)
                keep(logits, label, batch)
        results = ranks.from_first(self.evaluator.evaluate)
        for key, value in results.items():
            self.write_scalar(f"{split}/{key}", value, self.epoch)
        self._last_test = {**results, "split": split, "seconds_test": time.monotonic() - started}
        return next(iter(results.values()))

    def _split_loader(self, split):
        if split == "val" and self.val_loader is not None:
            return "val", self.val_loader
        return "test", self.test_loader

    @torch.no_grad()
    def _infer(self, loader):
        """Logits, labels and batch of every batch of a loader, without gradients.

        Where ranks share the batches, rank 0 gets all of them in their order, and the others none.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        with ranks.sharing():
            self.before_test()
            try:
                for batch in loader:
                    input, label = self.parse_batch_test(batch)
                    yield from parts_in_order(self.model_inference(input), label, batch)
            finally:
                self.after_test()

    def output_test(self, split=None) -> float:
        """Like :meth:`test`, and write the logits of every image to ``output.json``."""
        outputs = {}
        _, loader = self._split_loader(split or self.cfg.TEST.SPLIT)
        for logits, label, batch in self._infer(loader):
            self.evaluator.process(logits, label)
            for path, row, truth in zip(batch["impath"], logits.tolist(), label.tolist(), strict=True):
                outputs[path] = {"predict": row, "gt": truth}
        if ranks.is_first():
            write_json(outputs, os.path.join(self.output_dir, LOGITS))
        return next(iter(ranks.from_first(self.evaluator.evaluate).values()))

    def model_inference(self, input):
        return self.model(input)

    def parse_batch_test(self, batch):
        images, labels = batch["img"], batch["label"]
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    # Files of the run -------------------------------------------------------------------------------

    def write_run_files(self):
        """Write down this start, the images trained on (fewshot.json), and what the data set adds."""
        self._write_start()
        if hasattr(self.dm.dataset, "write_records"):
            self.dm.dataset.write_records(self.output_dir)
        images = fewshot_file(self.dm.dataset, self.cfg, self.train_files)
        write_json(images, os.path.join(self.output_dir, FEWSHOT))

    def _write_start(self):
        """Add this start to those of the run, once; one that ``--resume`` goes on with brings its own."""
        if self._starts or not ranks.is_first():
            return
        past = read_starts(self.cfg.RESUME) if self.cfg.RESUME else []
        start = start_line(self.dm.dataset, self.cfg, self.device, self.inputs)
        self._starts = write_start(self.output_dir, start, before=past)

    def note_new_start(self):
        """Write down that the run goes on with the config as it is now, which counts as another start."""
        if not ranks.is_first():
            return
        mkdir_if_missing(self.output_dir)
        write_config(self.output_dir, self.cfg, command=read_command(self.output_dir) or "")
        self._starts = 0
        self._write_start()

    def result(self) -> dict:
        """Everything a table needs to know about this run: unrounded percentages, None where unknown."""
        cfg, test = self.cfg, self._last_test
        tested = bool(test) and self.evaluator._total > 0
        fields = {
            "protocol": cfg.RUN.PROTOCOL or None,
            "dataset_file": cfg.RUN.DATASET_FILE or None,
            "dataset": cfg.DATASET.NAME,
            "trainer": cfg.TRAINER.NAME,
            "trainer_version": self.version,
            "backbone": cfg.MODEL.BACKBONE.NAME or None,
            "precision": None,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
            "split": test.get("split"),
            "num_classes": self.num_classes,
            "template": None,
            "trainable_params": self.count_trained_parameters(),
            "epoch": self._tested_epoch,
            "max_epoch": self.max_epoch,
            "budget_steps": self.budget_steps or None,
            "skipped_steps": self.skipped_steps,
            "train_images": len(self.dm.dataset.train_x),
            "total": self.evaluator._total if tested else None,
            "correct": self.evaluator._correct if tested else None,
            "accuracy": test.get("accuracy"),
            "error_rate": test.get("error_rate"),
            "macro_f1": test.get("macro_f1"),
            "extras": [],
            "inference": "unified",
            "tuned_for_backbone": None,
            "seconds_train": self.seconds_train or None,
            "seconds_test": test.get("seconds_test"),
            "peak_memory_mb": peak_memory_mb(self.device),
            "ranks": ranks.size(),
            "starts": self._starts,
            "config_digest": config_digest(cfg),
            "inputs": self.inputs,
            "model_dir": cfg.RUN.MODEL_DIR or None,
            "model_digest": _config_digest_of(cfg.RUN.MODEL_DIR),
            "load_epoch": cfg.RUN.LOAD_EPOCH if cfg.RUN.LOAD_EPOCH >= 0 else None,
        }
        fields |= self.describe()
        accepted = [f"accepted {key}" for key in cfg.TEST.ACCEPT]
        return {**fields, "extras": [*fields["extras"], *accepted]}

    def save_result(self):
        """Write result.json, which marks the run as finished, and drop the resume point it supersedes."""
        if not ranks.is_first():
            return
        mkdir_if_missing(self.output_dir)
        self._write_start()
        if not os.path.isfile(os.path.join(self.output_dir, FEWSHOT)):
            self.write_run_files()
        write_result(self.output_dir, self.result())

    def count_trained_parameters(self) -> int:
        """Number of values that train, of all registered models."""
        return sum(p.numel() for m in self._models.values() for p in m.parameters() if p.requires_grad)


class TrainerX(SimpleTrainer):
    """A trainer over labelled images only: the base of every method here."""

    def run_epoch(self):
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        whole = len(self.train_loader_x)
        total = self.budget_steps or self.max_epoch * whole
        self.num_batches = min(whole, total - self.epoch * whole)  # a budget may end in the middle
        done = self._go_on_in_epoch(losses)
        if self._progress is None:
            self._progress = Progress(self.epoch * whole + done, total, tells_time=bool(self.budget_steps))

        def show(step: ShownStep):
            losses.update(step.numbers())
            self._progress.step(self, step, losses, batch_time, data_time)
            self._write_averages(step, losses)

        end = time.monotonic()
        last = None  # the step before, which is shown when its numbers are there: during the next one
        for batch, self.batch_idx in zip(self.train_loader_x, range(done, self.num_batches), strict=False):
            waited = time.monotonic() - end
            summary = self.forward_backward(batch)
            if last is not None:
                show(last)
            data_time.update(waited)
            batch_time.update(time.monotonic() - end)
            due = self._line_is_due(self.batch_idx)
            last = ShownStep(self.batch_idx, self.get_current_lr(), due, self._numbers_of(summary))
            if requested() and self._may_stop_in_epoch():
                self.settle_steps()
                show(last)
                self._stop_here(losses)
            end = time.monotonic()
        self.settle_steps()
        if last is not None:
            show(last)

    def _numbers_of(self, summary) -> Callable:
        """How to get what a step has reported, with numbers in place of tensors."""
        if not isinstance(summary, Mapping):
            return lambda: summary
        watch = self._step_watch
        return (LateNumbers(summary) if watch is None else watch.numbers_of(summary)).read

    def _line_is_due(self, batch_idx: int) -> bool:
        """Whether the log has a line for a step of this epoch."""
        shown = self.cfg.TRAIN.PRINT_FREQ
        if self.budget_steps:
            return (self.epoch * len(self.train_loader_x) + batch_idx + 1) % shown == 0
        return (batch_idx + 1) % shown == 0 or self.num_batches < shown

    def _go_on_in_epoch(self, losses: MetricMeter) -> int:
        """Steps of this epoch that are done; where there are some, the loader and ``losses`` go on there."""
        position, self._position = self._position, None
        if position is None:
            return 0
        losses.load_state(position["meters"])
        self.batch_idx = position["steps"] - 1  # of the step before, for an epoch without another
        self.train_loader_x.sampler.go_on(
            position["steps"] * self.train_loader_x.batch_size, position["passes"]
        )
        return position["steps"]

    def _stop_here(self, losses: MetricMeter):
        """Write the resume point behind the step that is done, and end the run."""
        self._stop_clock()
        steps = self.batch_idx + 1
        passes = self.train_loader_x.sampler.passes.begun
        self._save_point(self.epoch, {"steps": steps, "passes": passes, "meters": losses.state()})
        ranks.barrier()
        raise Stopped(requested(), _after(self.epoch, steps), "goes on there")

    def _write_averages(self, step: ShownStep, losses: MetricMeter):
        """TensorBoard: averages over the epoch."""
        number = self.epoch * len(self.train_loader_x) + step.batch_idx
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, number)
        self.write_scalar("train/lr", step.lr, number)

    def parse_batch_train(self, batch):
        found = (batch[name] for name in ("img", "label", "domain"))
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in found)


class TrainerXU(SimpleTrainer):
    """Labelled and unlabelled images together: not provided."""

    def __init__(self, cfg):
        raise NotImplementedError(
            f"{type(self).__name__} needs unlabelled images (TrainerXU), which this engine does not provide; "
            "subclass TrainerX"
        )


def _config_digest_of(folder: str) -> str | None:
    """Which experiment trained the model in a run folder; None if nothing there says so."""
    result = read_result(folder) if folder else None
    return result.get("config_digest") if result else None


def _can_go_on(loader) -> bool:
    """Whether a pass can begin behind any batch: an order of ours, cut into batches by torch."""
    ours = isinstance(loader, DataLoader) and isinstance(loader.sampler, EpochSampler)
    return ours and loader.batch_size is not None and type(loader.sampler).__iter__ is EpochSampler.__iter__


def _after(epochs: int, steps: int) -> str:
    """Where training stands, for people."""
    return f"after step {steps} of epoch {epochs + 1}" if steps else f"after epoch {epochs}"


def _goes_on(epochs: int, steps: int) -> str:
    return f"goes on {_after(epochs, steps)}" if epochs or steps else "starts from scratch"
