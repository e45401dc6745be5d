"""What a finished run leaves in fit/ (clipfit/fit/files.py says what the files hold)."""

import datetime
from importlib import metadata

import torch

import clipfit
from clipfit import backbones
from clipfit.fit.files import CLASS_FEATURES, CLIP, Fit
from clipfit.fit.names import is_of_clip, openai_name
from dassl.config.identity import config_digest

PARTS = ("image_features", "model_inference")  # of a trainer: what a fit computes as plain CLIP does


def fit_of(trainer, plain: type) -> Fit:
    """The fit of a trainer whose final test is done.

    Args: plain, the class whose image features, logits and hand-written prompts a fit computes by itself
    """
    alone, tensors = not _needs_trainer(trainer, plain), {}
    if alone:
        trained = trainer.trained_parameters()  # learned words may be among them: the model is the CLIP
        tensors = {CLIP + openai_name(name): tensor for name, tensor in trained.items() if is_of_clip(name)}
        with torch.no_grad(), trainer.autocast():
            tensors[CLASS_FEATURES] = trainer.text_features().float()
    facts = {**_facts_of(trainer), "features": "text" if alone else "none"}
    facts["open_vocabulary"] = alone and _has_words_for_classes(trainer, plain)
    return Fit(facts if alone else {**facts, "needs_trainer": True}, tensors)


def _needs_trainer(trainer, plain: type) -> bool:
    """Whether a prediction takes more than CLIP's own tensors and one feature per class."""
    return any(getattr(type(trainer), part) is not getattr(plain, part) for part in PARTS)


def _has_words_for_classes(trainer, plain: type) -> bool:
    """Whether classes are words in hand-written prompts and nothing but CLIP's own tensors was trained."""
    hand_written = type(trainer).text_features is plain.text_features or hasattr(trainer, "templates")
    return hand_written and all(map(is_of_clip, trainer.saved_tensors()))


def _facts_of(trainer) -> dict:
    cfg, known = trainer.cfg, trainer.result()
    name, took_part = cfg.MODEL.BACKBONE.NAME, trainer.trains and not cfg.RUN.NEW_CLASSES
    templates = getattr(trainer, "templates", trainer.template)  # several for an ensemble
    facts = {
        "method": cfg.TRAINER.NAME,
        "version": trainer.version,
        "backbone": {
            "name": backbones.absolute(name),
            "sha256": backbones.weights_digest(name),
            "activation": trainer.clip.activation,
        },
        "classes": list(trainer.classnames),
        "template": templates if trainer.reads_template else None,
        "seen": list(range(len(trainer.classnames))) if took_part else [],
        "input": {
            "size": list(cfg.INPUT.SIZE),
            "mean": list(cfg.INPUT.PIXEL_MEAN) if "normalize" in cfg.INPUT.TRANSFORMS else None,
            "std": list(cfg.INPUT.PIXEL_STD) if "normalize" in cfg.INPUT.TRANSFORMS else None,
            "interpolation": cfg.INPUT.INTERPOLATION,
            "resize": cfg.INPUT.RESIZE,
            "upright": bool(getattr(trainer.dm.dataset, "upright", False)),
        },
        "logit_scale": trainer.clip.logit_scale.exp().item(),
        "images": {"trained": known["train_images"] if took_part else 0, "tested": known["total"]},
        "identity": config_digest(cfg),
        "made_by": {
            "clipfit": clipfit.__version__,
            "torch": metadata.version("torch"),
            "date": datetime.date.today().isoformat(),
        },
    }
    return {**facts, **{key: known[key] for key in ("precision", "inference", "accuracy")}}
