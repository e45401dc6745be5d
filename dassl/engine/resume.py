"""Exact resume: everything that decides a run's next bits, in one file that is replaced atomically.

``resume.pt`` holds models, optimizers, schedulers, the gradient scaler, counters, the states of the
global random generators and what a plugin adds through its hooks. The order and augmentation of samples
need no state: they derive from (seed, epoch, sample index).

It stands behind an epoch, or, with a position, behind a step in the middle of one:
{"steps": of the epoch that are done, "passes": over the loader that began in it, "meters": averages so far,
"gradients": model -> of its trained tensors, as a plugin may add them up over steps}.
"""

import numbers
import random
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from clipfit.io.files import printable
from dassl.run_folder import RESUME_POINT
from dassl.utils import load_checkpoint, ranks, save_whole
from dassl.utils.torchtools import is_epoch

OUT_OF_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator")
# What torch's optimizers keep per value of a parameter.
LIKE_PARAMETERS = {
    "momentum_buffer",
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "square_avg",
    "grad_avg",
    "sum",
}


def save_resume_point(trainer, folder: str, finished_epochs: int, position: dict | None = None) -> None:
    """Write the state after ``finished_epochs`` epochs; the old file stays until the new one is whole.

    Only rank 0 writes: the state is that of every rank.

    Args: position, in the epoch that follows: steps, passes and meters
    """
    if not ranks.is_first():
        return
    scaler = getattr(trainer, "scaler", None)
    state = {
        "epoch": finished_epochs,
        "position": position and {**position, "gradients": _gradients(trainer)},
        "models": {name: trainer.model_state(name) for name in trainer._models},
        "optimizers": _states(trainer._optims),
        "schedulers": _states(trainer._scheds),
        "scaler": scaler.state_dict() if hasattr(scaler, "state_dict") else None,
        "best_result": trainer.best_result,
        "seconds_train": trainer.seconds_train,
        "skipped_steps": trainer.skipped_steps,
        "random": _random_states(trainer.device),
        "plugin": trainer.extra_state(),
        "record": trainer.recorder.state() if trainer.recorder is not None else None,
        "inputs": trainer.inputs,
        "memory_gb": trainer.cfg.MODEL.MEMORY_GB,
    }
    save_whole(state, Path(folder) / RESUME_POINT)


def read_resume_point(trainer, folder: str) -> dict:
    """What :func:`save_resume_point` wrote; what an older version did not write yet is None.

    Raises: ValueError if the file was written by a trainer with other models, or is no resume point
    """
    path = Path(folder) / RESUME_POINT
    state = load_checkpoint(path)
    if not _is_resume_point(state):
        raise ValueError(f"{path} is no resume point; delete it to go on from the newest checkpoint")
    if list(state["models"]) != list(trainer._models):
        raise ValueError(
            f"{path} holds the models {list(state['models'])}, but this trainer registers "
            f"{list(trainer._models)}; choose another output folder or delete this one"
        )
    missing = {"position": None, "skipped_steps": None, "inputs": None, "memory_gb": None}
    return {**missing, "plugin": {}, "record": None, **state}


def _is_resume_point(state) -> bool:
    """Whether it has the parts that every version wrote, and counts that can be."""
    if not isinstance(state, dict) or not all(
        isinstance(state.get(part), dict) for part in ("models", "optimizers", "schedulers", "random")
    ):
        return False
    position = state.get("position")
    counts = [state.get("epoch"), *([position.get("steps")] if isinstance(position, dict) else [])]
    return all(map(is_epoch, counts)) and (position is None or isinstance(position, dict))


def restore(trainer, state: dict, folder: str) -> None:
    """Bring ``trainer`` back to a state that was read from ``folder``.

    Raises: ValueError naming the file, and the first tensor of another shape, if the state is not one of
            this run; an error that says that memory ran out as it is
    """
    with _of_file(Path(folder) / RESUME_POINT, trainer, state):
        _restore_engine(trainer, state)
        # An optimizer takes tensors of any shape, and fails at its next step.
        if misfit := next(_misfits(_of_optimizers(trainer, state)), ""):
            raise ValueError(misfit)
    trainer.load_extra_state(state["plugin"])
    with _of_file(Path(folder) / RESUME_POINT, trainer, state):  # last: a plugin may draw
        _restore_random_states(state["random"], trainer.device)


@contextmanager
def _of_file(path: Path, trainer, state: dict) -> Iterator[None]:
    """Whatever does not fit in the block becomes one line with the path."""
    try:
        yield
    except Exception as error:  # torch and NumPy say in many ways that a part is not theirs
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            raise
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        what = next(_misfits(_of_models(trainer, state)), printable(" ".join(what.split())))
        raise ValueError(
            f"{path} does not fit this run: {what}; remove that file to go on from the newest checkpoint, or "
            "start anew with --redo, which moves the run aside"
        ) from error


def _misfits(pairs: Iterable[tuple]) -> Iterator[str]:
    """A line for every tensor of another shape. Args: pairs, (what it is, as saved, as in this run)"""
    for what, there, here in pairs:
        both = isinstance(there, torch.Tensor) and isinstance(here, torch.Tensor)
        if both and there.shape != here.shape:
            yield f"{what} has shape {tuple(there.shape)} there, {tuple(here.shape)} in this run"


def _of_models(trainer, state: dict) -> Iterator[tuple]:
    """What is saved of tensors of models and random generators, and how it is here."""
    gradients = (state["position"] or {}).get("gradients")
    for name, model in trainer._models.items():
        saved = state["models"][name]
        for key, tensor in trainer.model_state(name).items():
            yield f"{key} of {name}", saved.get(key) if isinstance(saved, dict) else None, tensor
        trained = {key: one for key, one in model.named_parameters() if one.requires_grad}
        ours = gradients.get(name) if isinstance(gradients, dict) else None
        for (key, parameter), gradient in zip(trained.items(), ours or [], strict=False):
            yield f"the gradient of {key} of {name}", gradient, parameter
    yield "the state of torch's random generator", state["random"].get("torch"), torch.get_rng_state()


def _of_optimizers(trainer, state: dict) -> Iterator[tuple]:
    """What optimizers keep of each parameter, and the parameter."""
    for name, optimizer in trainer._optims.items():
        if optimizer is not None:
            for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
                for key, tensor in optimizer.state.get(parameter, {}).items():
                    if key in LIKE_PARAMETERS:
                        yield f"{key} of parameter {index} in the optimizer of {name}", tensor, parameter


def _restore_engine(trainer, state: dict) -> None:
    for name in trainer._models:
        trainer.load_model_state(name, state["models"][name])
    for objects, saved in ((trainer._optims, "optimizers"), (trainer._scheds, "schedulers")):
        for name, value in state[saved].items():
            objects[name].load_state_dict(value)
    if state["scaler"] is not None:
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.best_result = _number(state["best_result"])
    trainer.seconds_train = _number(state["seconds_train"])
    skipped = state["skipped_steps"]  # None: of a version that did not count them
    trainer.skipped_steps = None if skipped is None else _number(skipped)
    if state.get("memory_gb") is not None:
        _number(state["memory_gb"])  # taken over by the trainer, who may be given another
    if trainer.recorder is not None:
        trainer.recorder.load_state(state["record"])
    if state["position"]:
        _set_gradients(trainer, state["position"]["gradients"])


def _number(value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"a {type(value).__name__} stands for a number")
    return value


def _trained(trainer) -> dict[str, list]:
    """Registered name -> the tensors of that model which train."""
    return {
        name: [parameter for parameter in model.parameters() if parameter.requires_grad]
        for name, model in trainer._models.items()
    }


def _gradients(trainer) -> dict[str, list]:
    return {name: [parameter.grad for parameter in found] for name, found in _trained(trainer).items()}


def _set_gradients(trainer, gradients: dict[str, list]) -> None:
    for name, parameters in _trained(trainer).items():
        for parameter, gradient in zip(parameters, gradients[name], strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)


def _states(objects) -> dict:
    return {name: item.state_dict() for name, item in objects.items() if item is not None}


def _random_states(device: torch.device) -> dict:
    """States of the generators that a run draws from: of GPUs that of its own only."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, keys.tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def _restore_random_states(state: dict, device: torch.device) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"][0], device)
