"""PromptSRC: IVLP, whose features, logits and weights are held back by CLIP and by an average over epochs.

Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023,
https://arxiv.org/abs/2307.06948.
Departures from the authors' code: the average is over what trains alone, in float32 (there: over every
tensor, those of frozen CLIP and its teacher too, in float16); it goes on in a run that is resumed; amp works.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from clipfit import chunks, prompts
from clipfit.clip import normalize
from clipfit.imagenet_templates import IMAGENET_TEMPLATES
from dassl.engine import TRAINER_REGISTRY

from .averages import Gaussian
from .base import cross_entropy
from .ivlp import IVLP

TEMPLATES = IMAGENET_TEMPLATES[:60]  # of the authors' list, which has one of them in front


@TRAINER_REGISTRY.register()
class PromptSRC(IVLP):
    """loss = CE(z, y) + mean p0 log(p0 / p)
           + TEXT_LOSS_WEIGHT * mean|w - u| + IMAGE_LOSS_WEIGHT * mean|v - v0|

    w, v    unit features of classes and images, z = s * v w^T their logits, p = softmax(z)
    u, v0   those of untouched CLIP: u of the mean over 60 prompts of a class, v0 of the same augmented image
    p0      = softmax(s * v0 u^T)
    All means are over every number: (K, D), (B, D) and (B, K).
    tested and saved   the average of the weights behind each epoch e, in proportion to
                       exp(-(e - GPA_MEAN)^2 / (2 GPA_STD^2))
    """

    contract = {
        **{"OPTIM.MAX_EPOCH": 3, "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT": 3},
        "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION": 3,
    }

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        Gaussian(cfg.TRAINER.PROMPTSRC.GPA_MEAN, cfg.TRAINER.PROMPTSRC.GPA_STD)

    def setup(self):
        if not self.cfg.RUN.EVAL_ONLY:
            self.u = self.ensemble_of_clip()
            self.teacher = self.image_teacher()
        super().setup()

    @torch.no_grad()
    def ensemble_of_clip(self) -> Tensor:
        """Unit features (K, D) of the classes: the mean over templates, each as the text tower gives it."""
        total, unseen = 0.0, 0
        for template in TEMPLATES:
            texts = prompts.fill(template, self.classnames)
            tokens = prompts.tokenize_for(self.clip, texts, self.classnames)
            unseen += bool(prompts.untrained_tokens(self.clip, tokens, self.classnames))
            embedded = self.clip.embed_prompts(tokens)
            total = total + chunks.encode(self.clip.text_encoder, embedded, self.sizes.rows).float()
        if unseen:
            of_all = f"{unseen} of the teacher's {len(TEMPLATES)} templates"
            print(f"Warning: {of_all} have words new to the backbone")
        return normalize(total / len(TEMPLATES)).to(self.clip.dtype)

    def average(self) -> Gaussian:
        """With a budget in steps, epochs of MAX_EPOCH are stretched over it, as they are for the schedule."""
        stretch = self.max_epoch / self.cfg.OPTIM.MAX_EPOCH
        return Gaussian(self.hp.GPA_MEAN * stretch, self.hp.GPA_STD * stretch)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        w = self.text_features()
        of_images, z = self.in_micro_batches(self.losses, images, labels, w)
        return of_images + self.hp.TEXT_LOSS_WEIGHT * mean_difference(w, self.u), z

    def losses(self, images: Tensor, labels: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """All terms that read images (B, 3, H, W), and their logits (B, K)."""
        v = normalize(self.image_features(images))
        z = self.clip.logits(v, w)
        with torch.no_grad():
            v0 = normalize(self.teacher(images))
            p0 = self.clip.logits(v0, self.u).float().softmax(dim=-1)
        drift = F.kl_div(z.float().log_softmax(dim=-1), p0, reduction="none").mean()
        return cross_entropy(z, labels) + self.hp.IMAGE_LOSS_WEIGHT * mean_difference(v, v0) + drift, z

    def extras(self) -> list[str]:
        return [*super().extras(), "prompt ensemble"]


def mean_difference(features: Tensor, others: Tensor) -> Tensor:
    """Mean of |a - b| over all numbers of two tensors of a shape, in fp32."""
    return F.l1_loss(features.float(), others.float())
