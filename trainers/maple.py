"""MaPLe: learned tokens in both towers and in several layers, those of the image tower made from the text's.

Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023, https://arxiv.org/abs/2210.03117.
Departures from the authors' code: prompts have the precision of the activations they replace (there: always
rounded to float16, which allows float16 only); CTX_INIT starts the context whenever it has N_CTX tokens
(there: if N_CTX is at most 4).
"""

import copy

import torch
from torch import Tensor, nn

from clipfit.context import ContextPrompts
from clipfit.tokens import Tokens
from clipfit.vision import encode_with_tokens
from dassl.engine import TRAINER_REGISTRY

from .tokens import TokenTrainer


@TRAINER_REGISTRY.register()
class MaPLe(TokenTrainer):
    """loss = CE(logits, y),  w_k = text features of "[v_1] ... [v_M] name_k.", images with M more tokens.

    Before the blocks 1..J-1 the hidden states of these tokens are replaced by learned ones. Those of the
    image tower are affine functions of those of the text tower, one function per layer.
    J = PROMPT_DEPTH, M = N_CTX; what follows the first M tokens of CTX_INIT stays words ("of a").
    """

    registered_name = "MultiModalPromptLearner"
    rebuilt = ("prompt_learner.token_prefix", "prompt_learner.token_suffix")
    reads_template = False
    shapes_the_model = ("N_CTX", "CTX_INIT", "PROMPT_DEPTH")
    contract = {"OPTIM.MAX_EPOCH": 3, "TRAINER.MAPLE.PROMPT_DEPTH": 3}

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        self.check_at_least_one(cfg, "N_CTX", "PROMPT_DEPTH")

    def setup(self):
        image_tower = self.clip.image_encoder
        self.check_depth("PROMPT_DEPTH", image_tower, self.clip.text_encoder)
        words, ctx = self.initial_context("N_CTX")
        self.template = f"{words} {{}}."
        self.context_prompts = ContextPrompts(self.clip, words, self.hp.N_CTX, self.classnames)
        learner = MultiModalPrompts(ctx, self.hp.PROMPT_DEPTH, image_tower.class_embedding.shape[0])
        self.model.prompt_learner = learner.to(self.device)

    def text_features(self) -> Tensor:
        learner = self.model.prompt_learner
        prompts = self.context_prompts.fill(learner.ctx)
        if deep := list(learner.compound_prompts_text):
            prompts = prompts.with_deep_context(torch.stack(deep))
        return self.encode_text(prompts)

    def image_features(self, images: Tensor) -> Tensor:
        tokens = Tokens(self.model.prompt_learner.for_images(), first=0, start=None)
        return encode_with_tokens(self.clip.image_encoder, images, tokens)


class MultiModalPrompts(nn.Module):
    """What MaPLe learns, under the family's names: J - 1 deep prompts behind the context, J projections.

    The context and its projection have the precision of `ctx` (M, W); what is deeper is in float32. The deep
    projections start as copies of one.
    """

    def __init__(self, ctx: Tensor, depth: int, image_width: int):
        super().__init__()
        width, deeper = ctx.shape[1], range(depth - 1)
        self.ctx = nn.Parameter(ctx)
        self.proj = nn.Linear(width, image_width).to(ctx.dtype)
        self.compound_prompts_text = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(ctx.shape)) for _ in deeper
        )
        projection = nn.Linear(width, image_width)
        self.compound_prompt_projections = nn.ModuleList(copy.deepcopy(projection) for _ in deeper)

    def for_images(self) -> Tensor:
        """The prompts (J, M, W) of the image tower, in its width."""
        projections = [self.proj, *self.compound_prompt_projections]
        texts = [self.ctx, *self.compound_prompts_text]
        prompts = [project(text) for project, text in zip(projections, texts, strict=True)]
        return torch.stack([prompt.to(prompts[0].dtype) for prompt in prompts])
