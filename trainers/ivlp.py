"""IVLP: learned tokens in both towers and in several layers, those of one tower independent of the other's.

"Independent vision-language prompting", the baseline of Khattak et al., "Self-regulating Prompts:
Foundational Model Adaptation without Forgetting", ICCV 2023, https://arxiv.org/abs/2307.06948.
Departures from the authors' code: tokens have the precision of the activations that they join (there: always
rounded to float16, which allows float16 only).
"""

import torch
from torch import Tensor, nn

from clipfit.context import ContextPrompts
from clipfit.tokens import Tokens
from clipfit.vision import encode_with_tokens
from dassl.engine import TRAINER_REGISTRY

from .tokens import TokenTrainer


@TRAINER_REGISTRY.register()
class IVLP(TokenTrainer):
    """loss = CE(logits, y),  w_k = text features of "[v_1] ... [v_M] name_k.", images with N more tokens.

    Before the blocks 1..J-1 of a tower the hidden states of these tokens are replaced by learned ones.
    text    M = N_CTX_TEXT, J = PROMPT_DEPTH_TEXT; the first ones start from CTX_INIT, all others at random
    image   N = N_CTX_VISION, J = PROMPT_DEPTH_VISION; the first ones stand behind the patches, before ln_pre
    """

    registered_name = "VLPromptLearner"
    reads_template = False
    shapes_the_model = (
        "N_CTX_TEXT",
        "N_CTX_VISION",
        "CTX_INIT",
        "PROMPT_DEPTH_TEXT",
        "PROMPT_DEPTH_VISION",
    )
    contract = {
        **{"OPTIM.MAX_EPOCH": 3, "TRAINER.IVLP.PROMPT_DEPTH_TEXT": 3},
        "TRAINER.IVLP.PROMPT_DEPTH_VISION": 3,
    }

    def check_cfg(self, cfg):
        super().check_cfg(cfg)
        self.check_at_least_one(cfg, *(key for key in self.shapes_the_model if key != "CTX_INIT"))

    def setup(self):
        hp, image_tower, text_tower = self.hp, self.clip.image_encoder, self.clip.text_encoder
        self.check_depth("PROMPT_DEPTH_VISION", image_tower)
        self.check_depth("PROMPT_DEPTH_TEXT", text_tower)
        words, ctx = self.initial_context("N_CTX_TEXT")
        self.template = f"{words} {{}}."
        self.context_prompts = ContextPrompts(self.clip, words, hp.N_CTX_TEXT, self.classnames)
        image = hp.PROMPT_DEPTH_VISION, hp.N_CTX_VISION, image_tower.class_embedding.shape[0]
        self.model.prompt_learner = TwoTowerPrompts(ctx, hp.PROMPT_DEPTH_TEXT, image).to(self.device)

    def text_features(self) -> Tensor:
        learner = self.model.prompt_learner
        prompts = self.context_prompts.fill(learner.ctx)
        if learner.text is not None:
            prompts = prompts.with_deep_context(learner.text)
        return self.encode_text(prompts)

    def image_features(self, images: Tensor) -> Tensor:
        tokens = Tokens(self.model.prompt_learner.image, first=0, start=None)
        return encode_with_tokens(self.clip.image_encoder, images, tokens)


class TwoTowerPrompts(nn.Module):
    """What is learned: ctx (M, W) in its precision, text (J - 1, M, W) if there is more, image (J, N, W)."""

    def __init__(self, ctx: Tensor, text_depth: int, image: tuple[int, int, int]):
        super().__init__()
        self.ctx = nn.Parameter(ctx)
        deeper = (text_depth - 1, *ctx.shape)
        self.text = nn.Parameter(0.02 * torch.randn(deeper)) if text_depth > 1 else None
        self.image = nn.Parameter(0.02 * torch.randn(image))
