"""CoOp: learn the words around the class name.

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, https://arxiv.org/abs/2109.01134.
Departures from the authors' code: none; what it drops in silence (CSC or N_CTX beside CTX_INIT) is said.
"""

import torch
from torch import Tensor, nn

from clipfit.context import POSITIONS, ContextPrompts, embed_words, initial_phrase
from dassl.engine import TRAINER_REGISTRY

from .base import CLIPTrainer


@TRAINER_REGISTRY.register()
class CoOp(CLIPTrainer):
    """loss = CE(logits, y),  w_k = text features of "[v_1] ... [v_M] name_k.", the same M vectors for all k.

    CTX_INIT    phrase whose words the vectors start from; True: "a photo of a"; empty: random, N_CTX of them
    CSC         class-specific contexts: M vectors of its own for each class (random start only)
    CLASS_TOKEN_POSITION    of the name: end, middle or front
    """

    node = "COOP"
    phrase = "a photo of a"  # what CTX_INIT True means
    rebuilt = ("token_prefix", "token_suffix", "token_midfix")
    reads_template = False
    learns_words = True
    shapes_the_model = ("N_CTX", "CSC", "CTX_INIT", "CLASS_TOKEN_POSITION")
    contract = {"OPTIM.MAX_EPOCH": 6}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        node = self._node()
        hp = cfg.TRAINER[node]
        if hp.N_CTX < 1:
            raise ValueError(f"TRAINER.{node}.N_CTX is {hp.N_CTX}; a context has at least one vector")
        self.check_shape(cfg, f"TRAINER.{node}", hp)

    def check_shape(self, cfg, node: str, hp) -> None:
        """Raises: ValueError for a position that there is not, or contexts of classes that are not tested"""
        if hp.CLASS_TOKEN_POSITION not in POSITIONS:
            raise ValueError(
                f"{node}.CLASS_TOKEN_POSITION is {hp.CLASS_TOKEN_POSITION!r}; "
                f"choose {', '.join(POSITIONS[:-1])} or {POSITIONS[-1]}"
            )
        if hp.CSC and not hp.CTX_INIT and cfg.RUN.NEW_CLASSES:
            raise ValueError(
                f"{node}.CSC: class-specific contexts belong to the classes they were trained on "
                "and say nothing about others; test on those, or train with CSC False"
            )

    @property
    def csc(self) -> bool:
        return self.hp.CSC

    @property
    def position(self) -> str:
        return self.hp.CLASS_TOKEN_POSITION

    def setup(self):
        words, context = self.initial_context()
        self.model.ctx = nn.Parameter(context.to(self.device, self.clip.dtype))
        self.template = f"{words} {{}}."
        self.context_prompts = ContextPrompts(
            *(self.clip, words, context.shape[-2], self.classnames),
            position=self.position,
            per_class=context.dim() == 3,
        )

    def initial_context(self) -> tuple[str, Tensor]:
        """Words that the context stands for at the start, and its vectors (M, W), or (K, M, W) with CSC."""
        words = initial_phrase(self.hp.CTX_INIT, self.phrase)
        if not words:
            length, width = self.hp.N_CTX, self.clip.text_encoder.positional_embedding.shape[1]
            shape = (len(self.classnames), length, width) if self.csc else (length, width)
            return " ".join(["X"] * length), 0.02 * torch.randn(shape)
        length = len(words.split())
        self._say_that_csc_is_unused(words)
        if length != self.hp.N_CTX:
            print(f"Note: N_CTX {self.hp.N_CTX} is not used: {words!r} has {length} words, a vector for each")
        return words, embed_words(self.clip, words, length)

    def _say_that_csc_is_unused(self, words: str) -> None:
        if self.csc:
            print(f"Note: CSC is not used: all classes share the context that starts from {words!r}")

    def text_features(self) -> Tensor:
        return self.encode_text(self.context_prompts.fill(self.model.ctx))
