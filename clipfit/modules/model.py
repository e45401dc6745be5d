"""A whole CLIP: an image tower, a text tower, and the temperature of their similarities."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clipfit.modules.resnet import ModifiedResNet
from clipfit.modules.transformer import HEAD_WIDTH, LayerNorm, Transformer, VisionTransformer

TEMPERATURE = 0.07  # before training
# In the mixed half layout all parameters of these modules, and those of these names, are float16.
HALF_MODULES = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.MultiheadAttention)
HALF_PARAMETERS = ("text_projection", "proj")


class OpenAIModel(nn.Module):
    """CLIP with OpenAI's parameter names and their order.

    Args: vision_layers, number of blocks of a ViT, or the blocks of each stage of a ResNet
          vision_patch_size, None for a ResNet
          vision_heads, default: one per 64 channels
          activation of the transformers' MLPs: "quick_gelu" (OpenAI's weights) or "gelu"
    """

    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: int | tuple[int, ...],
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
        vision_heads: int | None = None,
        activation: str = "quick_gelu",
    ):
        super().__init__()
        self.context_length, self.vocab_size = context_length, vocab_size
        if isinstance(vision_layers, int):
            self.visual = VisionTransformer(
                input_resolution=image_resolution,
                patch_size=vision_patch_size,
                width=vision_width,
                layers=vision_layers,
                heads=vision_heads or vision_width // HEAD_WIDTH,
                output_dim=embed_dim,
                activation=activation,
            )
        else:
            self.visual = ModifiedResNet(
                layers=vision_layers,
                output_dim=embed_dim,
                heads=vision_heads or 32 * vision_width // HEAD_WIDTH,
                input_resolution=image_resolution,
                width=vision_width,
            )
        self.transformer = Transformer(
            transformer_width, transformer_layers, transformer_heads, causal=True, activation=activation
        )
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))
        self.initialize_parameters()

    @torch.no_grad()
    def initialize_parameters(self) -> None:
        """Weights to train from. Standard deviations: GPT-2's for the text tower, Radford et al. 2021."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        if isinstance(self.visual, ModifiedResNet):
            pool = self.visual.attnpool
            for layer in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
                nn.init.normal_(layer.weight, std=pool.c_proj.in_features**-0.5)
            for stage in (self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4):
                for block in stage:
                    nn.init.zeros_(block.bn3.weight)  # every block starts as its shortcut
        width, layers = self.transformer.width, self.transformer.layers
        residual = width**-0.5 * (2 * layers) ** -0.5  # each block adds to the rows twice
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=residual)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=residual)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the activations: that of the first convolution."""
        return self.visual.conv1.weight.dtype

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalized pixels -> (B, D) features, not normalized."""
        return self.visual(images.type(self.dtype))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """(B, L) token ids -> (B, D) features, not normalized, read at the end token, the highest id.

        L is at most the context length.
        """
        positions = self.positional_embedding[: tokens.shape[1]].type(self.dtype)
        rows = self.token_embedding(tokens).type(self.dtype) + positions
        rows = self.transformer(rows.transpose(0, 1)).transpose(0, 1)  # (B, L, W)
        rows = self.ln_final(rows).type(self.dtype)
        return rows[torch.arange(len(rows)), tokens.argmax(dim=-1)] @ self.text_projection

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled cosine similarities: (images, texts) and (texts, images)."""
        image_features, text_features = (
            features / features.norm(dim=-1, keepdim=True)
            for features in (self.encode_image(images), self.encode_text(tokens))
        )
        logits = self.logit_scale.exp() * image_features @ text_features.t()
        return logits, logits.t()


def convert_weights(model: nn.Module) -> None:
    """OpenAI's mixed half layout, in place: matrices and their biases float16.

    LayerNorms, BatchNorms, embeddings and the logit scale stay as they are.
    """
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if not isinstance(module, HALF_MODULES):
            own = {name: own[name] for name in HALF_PARAMETERS if name in own}
        for parameter in own.values():
            parameter.data = parameter.data.half()
