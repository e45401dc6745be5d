"""ProGrad: CoOp, whose gradient keeps only what does not work against zero-shot CLIP.

Zhu et al., "Prompt-aligned Gradient for Prompt Tuning", ICCV 2023, https://arxiv.org/abs/2205.14865.
Departures from the authors' code: zero-shot CLIP has the run's precision, not always fp32, so that both read
the same image features while the image encoder is frozen; amp and the middle position work.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from clipfit.context import embed_words, initial_phrase
from dassl.engine import TRAINER_REGISTRY
from dassl.metrics import compute_accuracy

from .base import cross_entropy
from .coop import CoOp


@TRAINER_REGISTRY.register()
class ProGrad(CoOp):
    """Step along g = g_a                           if <g_a, g_b> >= 0
                     g_a - LAMBDA * <g_a, u> * u   otherwise,  u = g_b / |g_b|

    per tensor, with the gradients of a = CE(z, y) and b = T^2 * CE(z / T, softmax(z0 / T)),
    z = logits of the learned prompts, z0 = logits of the hand-written ones (zero-shot CLIP).

    CTX_INIT True (or a phrase): of N_CTX vectors the last start from the words of the hand-written prompt
    before the name (or of the phrase), those before them from zero.
    """

    version = 2
    template_column = "prograd"
    reads_template = True  # the hand-written prompts, and where the context starts
    contract = {"OPTIM.MAX_EPOCH": 12}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        if cfg.LOSS.NAME != "prograd":
            raise ValueError(f"LOSS.NAME is {cfg.LOSS.NAME!r}; ProGrad knows only 'prograd'")
        if cfg.LOSS.T <= 0:
            raise ValueError(f"LOSS.T is {cfg.LOSS.T}; a temperature is positive")

    def setup(self):
        if not self.cfg.RUN.EVAL_ONLY:
            self.w0 = self.hand_written_features()
            own = self.cfg.TRAINER.UPDATE_LAYERNORM  # else both read the same image features
            self.teacher = self.image_teacher() if own else None
        super().setup()

    def initial_context(self) -> tuple[str, Tensor]:
        phrase = initial_phrase(self.hp.CTX_INIT, own=self.template.split("{}")[0].strip())
        if not phrase:
            return super().initial_context()
        words, length = len(phrase.split()), self.hp.N_CTX
        if words > length:
            raise ValueError(
                f"TRAINER.COOP.N_CTX is {length}, but the context starts from the {words} words "
                f"of {phrase!r}; choose at least {words}, or CTX_INIT False"
            )
        self._say_that_csc_is_unused(phrase)
        vectors = embed_words(self.clip, phrase, words)
        zeros = vectors.new_zeros(length - words, vectors.shape[1])
        return " ".join(["X"] * (length - words) + [phrase]), torch.cat([zeros, vectors])

    def losses(self, images: Tensor, labels: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a, b (scalars) and the logits (B, K) of a batch, with text features w (K, D)."""
        features = self.image_features(images)
        z = self.clip.logits(features, w)
        with torch.no_grad():
            if self.teacher is not None:
                features = self.teacher(images)
            z0 = self.clip.logits(features, self.w0)
        temperature = self.cfg.LOSS.T
        target = (z0.float() / temperature).softmax(dim=-1)
        b = temperature**2 * F.cross_entropy(z.float() / temperature, target)
        return cross_entropy(z, labels), b, z

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        with self.autocast():
            a, b, logits = self.in_micro_batches(self.losses, images, labels, self.text_features())
        self.prograd_backward_and_update(a, self.scaled(b), self.cfg.LOSS.LAMBDA)
        return {"loss": a.detach(), "kl_loss": b.detach(), "acc": compute_accuracy(logits, labels)[0]}
