"""CLIP with its two towers as separate modules, over our modules or those of another library."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from clipfit.modules import OpenAIModel, VisionTransformer
from clipfit.modules.low_rank import train_dropout
from clipfit.text import Prompts, TextEncoder
from clipfit.tokenizer import CONTEXT_LENGTH
from clipfit.vision import in_pieces


def normalize(features: Tensor) -> Tensor:
    """Unit rows: v / |v| over the last axis, by plain division (no epsilon: a zero row speaks up as NaN)."""
    return features / features.norm(dim=-1, keepdim=True)


class CLIP(nn.Module):
    """Image tower, text tower, token embedding and logit scale of one CLIP.

    Parameters of the towers are named `image_encoder.*` and `text_encoder.*`, with OpenAI's names after that.

    Args: model, with OpenAI's names, or another with `visual` and `logit_scale` if `text_encoder` is given
          text_encoder, which reads `Prompts`, or token ids alone (clipfit/whole_text.py)
          token_embedding, for a text encoder that reads `Prompts`
          tokenizer, prompts and class names -> ids (K, L); None: CLIP's own (clipfit/tokenizer.py)
          context_length, of the ids that the tokenizer gives
          activation of the MLPs, "quick_gelu" or "gelu", for the record
    """

    def __init__(
        self,
        model: OpenAIModel | nn.Module,
        text_encoder: nn.Module | None = None,
        token_embedding: nn.Embedding | None = None,
        tokenizer: Callable[[Sequence[str], Sequence[str]], Tensor] | None = None,
        context_length: int | None = None,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.image_encoder = model.visual
        if text_encoder is None:
            text_encoder = TextEncoder(
                model.transformer, model.positional_embedding, model.ln_final, model.text_projection
            )
            token_embedding = model.token_embedding
        self.text_encoder = text_encoder
        self.token_embedding = token_embedding
        self.logit_scale = model.logit_scale
        self.tokenizer = tokenizer
        self.context_length = context_length or CONTEXT_LENGTH
        self.activation = activation

    def train(self, mode: bool = True) -> CLIP:
        """Stay in eval mode, but for the dropout of low-rank changes.

        A ResNet keeps its pre-trained BatchNorm statistics.
        """
        super().train(False)
        train_dropout(self, mode)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the activations (float16 for a model loaded with precision "fp16", else float32)."""
        return self.text_encoder.dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.logit_scale.device

    @property
    def input_size(self) -> int:
        """Side of the square input image in pixels."""
        tower = self.image_encoder
        return tower.input_resolution if hasattr(tower, "input_resolution") else tower.image_size[0]

    @property
    def takes_embeddings(self) -> bool:
        """Whether the text tower reads embeddings (`Prompts`), so that words can be learned."""
        return isinstance(self.text_encoder, TextEncoder)

    @property
    def takes_image_tokens(self) -> bool:
        """Whether the image tower is a plain vision transformer, in which learned tokens can stand."""
        return isinstance(self.image_encoder, VisionTransformer)

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized pixels -> (B, D) features, not normalized."""
        return in_pieces(self.image_encoder, images.type(self.dtype))

    def embed(self, tokens: Tensor) -> Tensor:
        """(..., L) token ids -> (..., L, W) embeddings in the model's precision, without positions."""
        return self.token_embedding(tokens.to(self.device)).type(self.dtype)

    def embed_prompts(self, tokens: Tensor) -> Prompts | Tensor:
        """(K, L) token ids -> what `text_encoder` reads: prompts as constants (no gradient to embeddings)."""
        if not self.takes_embeddings:
            return tokens.to(self.device)
        with torch.no_grad():
            return Prompts.from_tokens(tokens.to(self.device), self.embed)

    def logits(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Scaled cosine similarities (s * n(f)) @ n(w)^T, evaluated in this order.

        Args:    image_features (..., B, D) and text_features (..., K, D), normalized or not
        Returns: (..., B, K) in the precision of the features; under autocast in float32, since bfloat16
                 resolves logits near 30 only to steps of 1/8

        Where each image has text features of its own, (B, 1, D) and (B, K, D), no matrix product is used: its
        gradient would be a batch of outer products, for which torch 2.14 needs a C compiler on a GPU.
        """
        device = image_features.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self.logits(image_features.float(), text_features.float())
        scaled, text = self.logit_scale.exp() * normalize(image_features), normalize(text_features)
        if text.dim() > 2 and scaled.shape[-2] == 1:
            return (scaled * text).sum(dim=-1).unsqueeze(-2)
        return scaled @ text.mT
