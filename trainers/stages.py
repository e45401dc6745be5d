"""Trainings in stages (dassl/engine/stages.py): what their methods share."""

import torch
from torch import Tensor, nn

from dassl.engine.stages import Stages, TrainingStage
from dassl.optim import build_lr_scheduler, build_optimizer

from .averages import Gaussian
from .base import CLIPTrainer


class StagedTrainer(CLIPTrainer):
    """A method whose training has a length in steps, and stages that share it.

    The first stage trains what `setup` unfreezes. `plan` says what follows, `begin_stage` prepares it. All
    images count, the last, incomplete batch of an epoch too. Checkpoints hold the tensors of every stage, and
    which one they come from. A stage whose `average` is a moving one ends in it; the next one begins anew.
    """

    rate_per_step = True
    keeps_last_batch = True
    static_steps = False  # another stage trains other tensors

    def plan(self, first: dict[str, nn.Parameter]) -> list[TrainingStage]:
        """The stages of the training. Args: first, the parameters that are unfrozen, by name"""
        return [self.stage(first, self.total_steps)]

    def begin_stage(self, number: int) -> None:
        """Prepare a stage that training comes to, from 1: the first one, 0, needs none."""

    @property
    def total_steps(self) -> int:
        """Length of the whole training."""
        return self.budget_steps or self.max_epoch * len(self.train_loader_x)

    def stage(self, parameters: dict[str, nn.Parameter], steps: int, **optim) -> TrainingStage:
        """A stage on the settings of OPTIM, whose schedule is stretched over its steps.

        Args: optim, keys of OPTIM that are other here, such as LR=0.01
        """
        cfg = self.cfg.OPTIM.clone()
        cfg.defrost()
        cfg.update({**optim, "MAX_STEPS": max(steps, 1)})
        optimizer = build_optimizer(list(parameters.values()), cfg)
        return TrainingStage(parameters, steps, optimizer, build_lr_scheduler(optimizer, cfg))

    def optimizer_and_schedule(self, parameters):
        self.model.register_buffer("stage", torch.tensor(0, device=self.device))
        self.stages = Stages(self.plan(self.trained_parameters()), self._begin)
        for number, stage in enumerate(self.stages.all):
            count = sum(parameter.numel() for parameter in stage.parameters.values())
            print(f"  stage {number + 1}: {count:,} parameters, {stage.steps:,} steps")
        self._check_average()
        return self.stages.optimizer, self.stages.schedule

    def _check_average(self) -> None:
        if len(self.stages.all) > 1 and isinstance(self.average(), Gaussian):
            raise ValueError(
                f"{self.cfg.TRAINER.NAME}: a Gaussian average has weights by epoch, and the stages of this "
                "training are counted in steps; take a moving average (Ema)"
            )

    def _begin(self, number: int) -> None:
        print(f"Stage {number + 1} of {len(self.stages.all)} begins")
        self.averages.settle()
        self._check_average()
        self.model.stage.fill_(number)
        self.set_model_mode("eval")
        self.begin_stage(number)
        self.set_model_mode("train")

    def before_train(self):
        super().before_train()
        self.stages.go_on()  # where the first one has no steps

    # Files ------------------------------------------------------------------------------------------

    def ever_trained(self) -> dict[str, Tensor]:
        return self.stages.parameters

    @property
    def also_saved(self) -> tuple[str, ...]:
        if "stages" not in self.__dict__:
            return ()
        now = self.stages.current.parameters
        return ("stage", *(name for name in self.stages.parameters if name not in now))

    def start_from(self, path):
        super().start_from(path)
        self.model.stage.fill_(0)
        self.stages.enter(0)

    def load_model_state(self, name, state):
        super().load_model_state(name, state)
        self.stages.enter(int(self.model.stage))

    def count_trained_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.stages.parameters.values())
