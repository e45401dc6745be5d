"""What a finished run leaves in fit/ (clipfit/fit/files.py says what the files hold)."""

import datetime
import os
from importlib import metadata

import torch

import clipfit
from clipfit import backbones
from clipfit.fit.files import CLASS_FEATURES, CLIP, Fit, delta_tensors, features_of
from clipfit.fit.names import is_of_clip, openai_changes, openai_name
from dassl.config.identity import config_digest


def fit_of(trainer) -> Fit:
    """The fit of a trainer whose final test is done."""
    tensors = {}
    if not trainer.needs_trainer:
        trained = trainer.ever_trained()  # learned words may be among them: the model is the CLIP
        tensors = {CLIP + openai_name(name): tensor for name, tensor in trained.items() if is_of_clip(name)}
        tensors |= delta_tensors(openai_changes(trainer.clip))
        with torch.no_grad(), trainer.autocast():
            tensors[CLASS_FEATURES] = trainer.text_features().float()
    return Fit(facts_of(trainer), tensors)


def facts_of(trainer) -> dict:
    cfg, known = trainer.cfg, trainer.result()
    own, classes = list(trainer.trained_classes), list(range(len(trainer.classnames)))
    name, took_part = cfg.MODEL.BACKBONE.NAME, trainer.trains and not cfg.RUN.NEW_CLASSES
    facts = {
        "method": cfg.TRAINER.NAME,
        "version": trainer.version,
        "backbone": {
            "name": name if backbones.is_name(name) else os.path.abspath(name),
            "sha256": backbones.weights_digest(name),
            "activation": "quick_gelu",
        },
        "classes": list(trainer.classnames),
        "template": trainer.fit_template,
        "seen": own or (classes if took_part else []),
        "features": "none" if trainer.needs_trainer else features_of(own, classes),
        "open_vocabulary": not (trainer.learns_words or trainer.needs_trainer),
        "input": {
            "size": list(cfg.INPUT.SIZE),
            "mean": list(cfg.INPUT.PIXEL_MEAN) if "normalize" in cfg.INPUT.TRANSFORMS else None,
            "std": list(cfg.INPUT.PIXEL_STD) if "normalize" in cfg.INPUT.TRANSFORMS else None,
            "interpolation": cfg.INPUT.INTERPOLATION,
            "resize": "shortest",
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
    facts |= {key: known[key] for key in ("precision", "inference", "accuracy")}
    return facts | ({"needs_trainer": True} if trainer.needs_trainer else {})
