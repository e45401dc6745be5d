"""Learned tokens inside the towers (clipfit/tokens.py): what their methods share."""

import torch
from torch import Tensor

from clipfit.context import embed_words, initial_phrase
from clipfit.tokenizer import encode
from clipfit.vision import check_transformer

from .base import CLIPTrainer


class TokenTrainer(CLIPTrainer):
    """A method with learned tokens in both towers, of which the image tower is a plain vision transformer."""

    phrase = "a photo of a"  # what CTX_INIT True means
    learns_words = True

    @property
    def image_tower_learns(self) -> bool:
        return True  # the tokens in it do

    def check_at_least_one(self, cfg, *keys: str) -> None:
        """Raises: ValueError naming a key of the method's node, a count, that is below 1"""
        node = self._node()
        for key in keys:
            if cfg.TRAINER[node][key] < 1:
                raise ValueError(f"TRAINER.{node}.{key} is {cfg.TRAINER[node][key]}; choose at least 1")

    def check_depth(self, key: str, *towers: torch.nn.Module) -> None:
        """Raises: ValueError if images cannot have tokens, or a tower has fewer blocks than the key says"""
        check_transformer(self.clip.image_encoder)
        blocks = min(len(tower.transformer.resblocks) for tower in towers)
        if self.hp[key] > blocks:
            raise ValueError(
                f"TRAINER.{self._node()}.{key} is {self.hp[key]}, but a tower of "
                f"{self.cfg.MODEL.BACKBONE.NAME} has only {blocks} blocks; choose 1 to {blocks}"
            )

    def initial_context(self, key: str) -> tuple[str, Tensor]:
        """Words of the prompts, and vectors (M, W) for the first M of their tokens; the others stay words.

        Args: key, which says M
        """
        words, length = initial_phrase(self.hp.CTX_INIT, self.phrase), self.hp[key]
        if words and len(encode(words)) >= length:
            return words, embed_words(self.clip, words, length)
        if words:
            print(f"Note: CTX_INIT is not used: {words!r} has fewer than {key} {length} tokens; random start")
        width = self.clip.text_encoder.text_projection.shape[0]
        return " ".join(["X"] * length), (0.02 * torch.randn(length, width)).to(self.clip.dtype)
