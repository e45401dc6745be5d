"""What a finished run leaves in fit/ (clipfit/fit/files.py says what the files hold)."""

import datetime
from importlib import metadata

import torch

import clipfit
from clipfit import backbones
from clipfit.fit.files import CLASS_FEATURES, CLIP, Fit, delta_tensors, features_of
from clipfit.fit.names import is_of_clip, openai_changes, openai_name
from clipfit.low_rank import INSIDE, dropout_of
from dassl.config.identity import config_digest

PARTS = ("image_features", "model_inference")  # of a trainer: what a fit computes as plain CLIP does


def fit_of(trainer, plain: type) -> Fit:
    """The fit of a trainer whose final test is done.

    Args: plain, the class whose image features, logits and hand-written prompts a fit computes by itself
    """
    alone, tensors = not _needs_trainer(trainer, plain), {}
    if alone:
        trained = trainer.ever_trained()  # learned words may be among them: the model is the CLIP
        tensors = {CLIP + openai_name(name): tensor for name, tensor in trained.items() if is_of_clip(name)}
        tensors |= delta_tensors(openai_changes(trainer.clip))
        with torch.no_grad(), trainer.autocast():
            tensors[CLASS_FEATURES] = trainer.text_features().float()
    features = features_of(trainer.trained_classes, trainer.classnames) if alone else "none"
    facts = {**_facts_of(trainer), "features": features}
    facts["open_vocabulary"] = alone and _has_words_for_classes(trainer, plain)
    return Fit(facts if alone else {**facts, "needs_trainer": True}, tensors)


def _needs_trainer(trainer, plain: type) -> bool:
    """Whether a prediction takes more than CLIP's own tensors and one feature per class."""
    return any(getattr(type(trainer), part) is not getattr(plain, part) for part in PARTS)


def _has_words_for_classes(trainer, plain: type) -> bool:
    """Whether any class can be named in a hand-written prompt, because only CLIP itself was changed."""
    if trainer.inference != "unified":  # trained features for some classes, the text tower's for all others
        return True
    hand_written = type(trainer).text_features is plain.text_features or hasattr(trainer, "templates")
    return hand_written and all(map(_is_in_clip, trainer.ever_trained()))


def _is_in_clip(name: str) -> bool:
    """Whether a trained tensor is CLIP's own or a low-rank change of one."""
    return is_of_clip(name) or INSIDE in name


def _facts_of(trainer) -> dict:
    cfg, known = trainer.cfg, trainer.result()
    own, classes = list(trainer.trained_classes), list(range(len(trainer.classnames)))
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
        "seen": own or (classes if took_part else []),
        "input": {
            "size": list(cfg.INPUT.SIZE),
            "mean": list(cfg.INPUT.PIXEL_MEAN) if "normalize" in cfg.INPUT.TRANSFORMS else None,
            "std": list(cfg.INPUT.PIXEL_STD) if "normalize" in cfg.INPUT.TRANSFORMS else None,
            "interpolation": cfg.INPUT.INTERPOLATION,
            "resize": cfg.INPUT.RESIZE,
            "upright": bool(getattr(trainer.dm.dataset, "upright", False)),
        },
        "logit_scale": trainer.clip.logit_scale.exp().item(),
        **({"low_rank_dropout": dropout} if (dropout := dropout_of(trainer.clip)) is not None else {}),
        "images": {"trained": known["train_images"] if took_part else 0, "tested": known["total"]},
        "identity": config_digest(cfg),
        "made_by": {
            "clipfit": clipfit.__version__,
            "torch": metadata.version("torch"),
            "date": datetime.date.today().isoformat(),
        },
    }
    return {**facts, **{key: known[key] for key in ("precision", "inference", "accuracy")}}
