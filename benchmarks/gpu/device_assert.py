"""A method whose kernel fails an assertion. The check sticky_error puts this file into a copy's trainers/."""

import torch

from dassl.engine import TRAINER_REGISTRY
from trainers.base import CLIPTrainer


@TRAINER_REGISTRY.register()
class DeviceAssert(CLIPTrainer):
    """Reads beyond the end of a tensor: on a GPU an assertion in a kernel, after which no call succeeds."""

    defaults = {"PREC": "fp32"}

    def setup(self):
        self.unfreeze(["image.layernorm"])

    def loss(self, images, labels):
        beyond = torch.full((3,), 7, device=self.device)
        logits = self.model_inference(images)
        return logits.mean() + torch.ones(3, device=self.device)[beyond].sum(), logits
