"""A head: trained features of the classes that were trained on, beside the text tower for all others."""

from torch import Tensor

from clipfit.head import ClassHead

from .base import CLIPTrainer


class HeadTrainer(CLIPTrainer):
    """A method that has trained features for classes which it knows by name.

    Once `start_head` has given them their first values, a class that the head knows has its row, and any
    other the text tower's feature of its prompt.
    """

    def add_head(self) -> None:
        """Give the model a head for the run's classes, which is frozen and not in use yet."""
        self.model.head = ClassHead(self.hand_written_features(), self.classnames)

    def start_head(self) -> None:
        """Let the head take over from the text tower, whose features it starts from."""
        self.model.head.start(self.hand_written_features())

    def text_features(self) -> Tensor:
        """Unit features (K, D) of the classes, whichever of the two they come from."""
        if not self.head_in_use:
            return super().text_features()
        features = self.model.head(self.classnames, super().text_features)
        return features.to(self.clip.dtype)

    @property
    def head_in_use(self) -> bool:
        head = getattr(self.model, "head", None)
        return head is not None and head.is_in_use

    @property
    def inference(self) -> str:
        return "per-class" if self.head_in_use else "unified"

    @property
    def trained_classes(self) -> list[int]:
        """Which of the run's classes have trained features."""
        return self.model.head.rows_of(self.classnames)[1] if self.head_in_use else []

    @property
    def also_saved(self) -> tuple[str, ...]:
        has_head = hasattr(getattr(self, "model", None), "head")
        return (*super().also_saved, *(("head.classes", "head.in_use") if has_head else ()))

    def load_model_state(self, name, state):
        """Load a head of any number of classes: the tested ones find their rows by name."""
        if hasattr(self.model, "head") and {"head.weight", "head.classes"} <= state.keys():
            self.model.head.resize(state["head.weight"].shape, state["head.classes"].shape)
        super().load_model_state(name, state)
