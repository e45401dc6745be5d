"""CLIPFit: tune the FFN projection biases of the text encoder and the LayerNorms of the image encoder.

Li et al., "Vision-Language Model Fine-Tuning via Simple Parameter-Efficient Modification", EMNLP 2024.
Departure from the paper: Eq. 4 prints the mean cosine itself, which would drive the two apart; the term is
one minus it, as in the authors' code.
"""

import torch
from torch import Tensor

from clipfit import groups
from clipfit.clip import normalize
from dassl.engine import TRAINER_REGISTRY

from .base import CLIPTrainer, mean_distance


@TRAINER_REGISTRY.register()
class CLIPFit(CLIPTrainer):
    """loss = CE(logits, y) + BETA * R

    kd    R = mean over classes k of 1 - cos(w_k, w0_k)     (Eq. 4), w0 = text features of the untouched CLIP
    mse   R = mean over layers l of |b_l - b0_l|^2          (Eq. 5), b = the trained text biases
    none  R = 0
    """

    template_column = "kgcoop"
    shapes_the_model = ("UNFREEZE",)
    names_groups = ("UNFREEZE",)
    contract = {"OPTIM.MAX_EPOCH": 4}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        hp = cfg.TRAINER.CLIPFIT
        if hp.REGULARIZER not in ("kd", "mse", "none"):
            raise ValueError(f"TRAINER.CLIPFIT.REGULARIZER is {hp.REGULARIZER!r}; choose kd, mse or none")
        if hp.TEACHER_PREC not in ("same", "fp16"):
            raise ValueError(f"TRAINER.CLIPFIT.TEACHER_PREC is {hp.TEACHER_PREC!r}; choose same or fp16")

    def setup(self):
        self.unfreeze(self.hp.UNFREEZE)
        if self.cfg.RUN.EVAL_ONLY:
            return
        if self.hp.REGULARIZER == "kd":
            self.w0 = self.teacher_features()
        if self.hp.REGULARIZER == "mse":
            self.b = self.trained_biases()
            self.b0 = [bias.detach().clone() for bias in self.b]

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        w = self.text_features()  # (K, D): one text pass serves both terms
        entropy, logits = self.cross_entropy(images, labels, w)
        return entropy + self.hp.BETA * self.regularizer(w), logits

    def regularizer(self, w: Tensor) -> Tensor | float:
        """R for unit text features w (K, D), in fp32."""
        if self.hp.REGULARIZER == "kd":
            return mean_distance(w, self.w0)
        if self.hp.REGULARIZER == "mse":
            distances = [
                (b.float() - b0.float()).square().sum() for b, b0 in zip(self.b, self.b0, strict=True)
            ]
            return sum(distances) / len(distances)
        return 0.0

    @torch.no_grad()
    def teacher_features(self) -> Tensor:
        """w0: unit text features (K, D) of CLIP as loaded, called before anything is trained."""
        if self.hp.TEACHER_PREC == "same":
            return self.hand_written_features()
        teacher = self.load_backbone("fp16")
        return normalize(teacher.text_encoder(teacher.embed_prompts(self.tokens)))

    def trained_biases(self) -> list[Tensor]:
        """The FFN projection biases of the text encoder that train, a vector (W,) per layer."""
        biases = groups.select(self.clip, ["text.ffn_proj_bias"])["text.ffn_proj_bias"].values()
        trained = [bias for bias in biases if bias.requires_grad]
        if not trained:
            raise ValueError(
                f"TRAINER.CLIPFIT.REGULARIZER mse keeps the text biases near their start, but UNFREEZE "
                f"{list(self.hp.UNFREEZE)} trains none; add text.ffn_proj_bias, or choose kd or none"
            )
        return trained
