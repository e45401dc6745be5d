"""RAdam as the family uses it: with decoupled weight decay.

Liu et al., ICLR 2020, https://arxiv.org/abs/1908.03265.
"""

import torch


class RAdam(torch.optim.RAdam):
    """torch's RAdam whose weight decay shrinks the weights directly and does not enter the gradients."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **options):
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=True,
            **options,
        )
