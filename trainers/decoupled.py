"""A decoupled inference rule: what a model was trained on is asked in another way than all else."""

from torch import Tensor

from clipfit.cache import as_bytes, as_names

from .base import CLIPTrainer


class DecoupledTrainer(CLIPTrainer):
    """A method whose model knows by name the data set and the classes of its training."""

    inference = "decoupled"

    def remember_training(self) -> None:
        """Let the model know what the run is about to train on; a loaded model knows its own training."""
        names = as_bytes([self.cfg.DATASET.NAME, *self.classnames])
        self.model.register_buffer("trained_on", names.to(self.device))

    @property
    def is_as_trained(self) -> bool:
        """Whether the run's data set is that of the training, and has no class that is new to the model."""
        data_set, *classes = as_names(self.model.trained_on)
        return data_set == self.cfg.DATASET.NAME and set(self.classnames) <= set(classes)

    @property
    def also_saved(self) -> tuple[str, ...]:
        known = hasattr(getattr(self, "model", None), "trained_on")
        return (*super().also_saved, *(("trained_on",) if known else ()))

    def load_model_state(self, name: str, state: dict[str, Tensor]):
        """Load a model of any training, whose names are of any length."""
        if "trained_on" in state:
            self.model.trained_on = self.model.trained_on.new_empty(state["trained_on"].shape)
        super().load_model_state(name, state)
