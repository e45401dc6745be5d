"""What the CLIP methods share: loading, precision, freezing, one optimisation step, checkpoints, evaluation.

A method subclasses :class:`CLIPTrainer` and says which parameters train (``setup``) and what differs from
plain CLIP: its ``text_features``, its ``image_features`` or its ``loss``. Where a loss is a mean over images
plus something of the text features alone, ``cross_entropy`` (or ``in_micro_batches``) keeps less for it.
"""

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from clipfit import chunks, groups, memory, prompts
from clipfit.clip import CLIP, normalize
from clipfit.families.facts import AUTO
from clipfit.fit.files import FOLDER, write_fit
from clipfit.frozen_features import PIECE, FrozenFeatures
from clipfit.io.checkpoints import state_dict_in
from clipfit.loading import load_clip
from clipfit.micro_batches import Losses, mean_losses
from clipfit.modules.low_rank import draws
from clipfit.text import Prompts
from dassl.data import build_data_loader
from dassl.data.data_manager import send_as_bytes
from dassl.data.datasets import validates_on_test
from dassl.data.transforms import build_transform
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, ranks
from dassl.utils.shared_steps import GatherRows

from .averages import LAST, Ema, Gaussian, RunningAverage
from .fit import fit_of
from .graph import GraphedStep, why_no_graph

PRECISIONS = ("fp32", "amp", "fp16")
RECIPES_BACKBONE = "ViT-B/16"  # on which the sources of all recipes chose their settings
AMP_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class CLIPTrainer(TrainerX):
    """A method over CLIP's two towers. Class attributes a method may set:

    node              its config node, ``cfg.TRAINER.<node>``; default: the class name in capitals
    defaults          keys of that node with their defaults, beside those of its bases, for a method without a
                      YAML: one with configs/trainers/<Name>.yaml has all of them there
    spellings         further names on a command line; case and underscores never count
    trains            something does; if not, the seed decides nothing
    new_classes       what it trained says something about classes that it was not trained on; if not, tests
                      and protocols with such classes are refused
    contract          {"KEY": value}: a short training that learns on the embedded data, for the tests that
                      every method must pass (tests/trainers/test_contract.py)
    template_column   which of a data set's templates it takes (dassl/config/facts.py)
    registered_name   folder of its checkpoints
    rebuilt           tensors in files of the family that depend on the classes and are made anew
    also_saved        tensors of the model that checkpoints hold beside those that train now
    rate_per_step     the learning rate follows its schedule from step to step, not from epoch to epoch
    keeps_last_batch  of an epoch, even if it is incomplete
    static_steps      every step computes the same, with the same tensors, if its batch has the same shape
    inference         whence a class has its features: unified (one way for all), per-class (trained ones for
                      some), decoupled (one way for base classes, another for new ones)
    trained_classes   which of the run's classes have features that were trained, by number
    version           of its results: raised whenever the same config gives other numbers than before
    reads_template    DATASET.PROMPT_TEMPLATE means something to it
    shapes_the_model  keys of its node in which a test must equal the training of the model that it loads
    learns_words      of the prompts, so that the text tower must take embeddings
    names_groups      keys of its node that name parameter groups (clipfit/groups.py), checked before a run
    names_maps        the same for linear maps with low-rank changes (clipfit/low_rank.py)
    """

    node = ""
    defaults: dict = {"PREC": "auto"}
    spellings: tuple[str, ...] = ()
    trains = True
    new_classes = True
    contract: dict = {}
    template_column = "default"
    registered_name = "prompt_learner"  # the family's name, whatever is trained
    rebuilt: tuple[str, ...] = ()
    also_saved: tuple[str, ...] = ()
    rate_per_step = False
    keeps_last_batch = False
    static_steps = True
    inference = "unified"
    trained_classes: Sequence[int] = ()
    reads_template = True
    shapes_the_model: tuple[str, ...] = ()
    names_groups: tuple[str, ...] = ()
    names_maps: tuple[str, ...] = ()
    learns_words = False

    @property
    def hp(self):
        """The method's own settings."""
        return self.cfg.TRAINER[self._node()]

    @classmethod
    def _node(cls) -> str:
        return cls.node or cls.__name__.upper()

    @property
    def precision(self) -> str:
        return self.hp.PREC

    def check_cfg(self, cfg):
        node = self._node()
        precision = cfg.TRAINER[node].PREC
        if precision not in PRECISIONS:
            raise ValueError(f"TRAINER.{node}.PREC is {precision!r}; choose auto, {', '.join(PRECISIONS)}")
        if cfg.TRAINER.AMP_DTYPE not in AMP_DTYPES:
            raise ValueError(
                f"TRAINER.AMP_DTYPE is {cfg.TRAINER.AMP_DTYPE!r}; choose {' or '.join(AMP_DTYPES)}"
            )

    # Building ---------------------------------------------------------------------------------------

    def build_data_loader(self):
        super().build_data_loader()
        self.send_as_bytes(self.val_loader, self.test_loader)
        if self.keeps_last_batch:
            items, sampler = self.dm.dataset.train_x, self.cfg.DATALOADER.TRAIN_X.SAMPLER
            self.train_loader_x = self.loader("train_x", items, sampler, is_train=True)
        else:
            self.send_as_bytes(self.train_loader_x)

    def send_as_bytes(self, *loaders) -> None:
        """Let images travel as bytes to the device, with digests where their features may be stored."""
        send_as_bytes(self.device, *loaders, digests=PIECE if self.cfg.FEATURES.STORE else 0)

    def loader(
        self,
        stream: str,
        items: list,
        sampler: str = "SequentialSampler",
        is_train: bool = False,
        passes: int | None = None,
    ):
        """A loader whose passes leave no image out. Args: passes, how many, where not one per epoch"""
        loaders = self.cfg.DATALOADER
        loader = build_data_loader(
            self.cfg,
            sampler,
            items,
            batch_size=(loaders.TRAIN_X if is_train else loaders.TEST).BATCH_SIZE,
            n_ins=loaders.TRAIN_X.N_INS,
            tfm=build_transform(self.cfg, is_train=is_train),
            is_train=is_train,
            stream=stream,
            drop_last=False,
            passes=passes,
        )
        self.send_as_bytes(loader)
        return loader

    def build_model(self):
        cfg = self.cfg
        print(f"Loading CLIP: {cfg.MODEL.BACKBONE.NAME}, {self.precision}")
        if self.precision == "fp16" and self.device.type == "cpu":
            print("Warning: half precision is slow on a CPU; use PREC fp32")
        self.clip = self.load_backbone(self.precision).requires_grad_(False)
        self._check_backbone()
        self.classnames = [name.replace("_", " ") for name in self.dm.dataset.classnames]
        declared = getattr(self.dm.dataset, "templates", {})  # of its facts, or of a plugin's class
        self.template = prompts.choose_template(declared, self.template_column, cfg.DATASET.PROMPT_TEMPLATE)
        self.tokens = self.tokenize(self.template)
        if self.reads_template:
            print(f"Prompts: {' | '.join(prompts.fill(self.template, self.classnames[:3]))}")
        self.prompts = self.clip.embed_prompts(self.tokens)
        if cfg.DATASET.PROMPT_TEMPLATE and not self.reads_template:
            print(f"Note: {cfg.TRAINER.NAME} learns its prompts and does not read DATASET.PROMPT_TEMPLATE")
        self.scaler = None
        self._test_features = None
        self._graphed_step = GraphedStep(self) if cfg.TRAIN.CUDA_GRAPH else None
        self._losses_without_update = None
        precision = f"{self.precision} {cfg.TRAINER.AMP_DTYPE if self.precision == 'amp' else ''}"
        store = cfg.FEATURES.STORE, cfg.FEATURES.STORE_GB * 1e9
        self.frozen_features = FrozenFeatures(self.clip.image_encoder, self.device, precision, *store)

        self.model = self.clip
        self.setup()
        if cfg.TRAINER.UPDATE_LAYERNORM:
            self.update_layernorm()
        if trained := self.trained_parameters():
            self._build_optimizer(trained)
        elif self.also_saved:
            self.register_model(self.registered_name, self.model)
        if cfg.MODEL.INIT_WEIGHTS:
            self.start_from(cfg.MODEL.INIT_WEIGHTS)

    def start_from(self, path: str) -> None:
        """Begin with what a checkpoint of another training has trained; what a teacher says stays CLIP's.

        Raises: ValueError naming the file if its tensors are not those that train here
        """
        try:
            self.load_model_state(self.registered_name, state_dict_in(load_checkpoint(path), path))
        except ValueError as error:
            raise ValueError(f"MODEL.INIT_WEIGHTS: {path}: {error}") from error

    def load_backbone(self, precision: str) -> CLIP:
        """CLIP as the config names it, as its weights are."""
        backbone = self.cfg.MODEL.BACKBONE
        activation = backbone.get("ACTIVATION", AUTO)  # a plugin's config may not have the key
        return load_clip(backbone.NAME, precision=precision, device=self.device, activation=activation)

    def _check_backbone(self) -> None:
        """Raises: ValueError if the method has no meaning on the towers of this backbone"""
        if self.learns_words and not self.clip.takes_embeddings:
            raise ValueError(
                f"{self.cfg.TRAINER.NAME} learns words in place of a prompt's embeddings, and the text tower "
                f"of {self.cfg.MODEL.BACKBONE.NAME} reads whole prompts of token ids: choose CLIPFit, "
                "CLIPAdapter, TipAdapter or ZeroshotCLIP, or another MODEL.BACKBONE.NAME"
            )

    def setup(self):
        """Choose what trains, precompute what stays; CLIP is frozen and ``self.prompts`` are embedded."""
        raise NotImplementedError

    def _build_optimizer(self, trained):
        cfg = self.cfg
        count, total = groups.count(trained.values()), groups.count(self.model.parameters())
        print(f"Training {count:,} of {total:,} parameters")
        self.optim, self.sched = self.optimizer_and_schedule(list(trained.values()))
        if self.precision == "amp" and cfg.TRAINER.AMP_DTYPE == "fp16":
            self.scaler = torch.amp.GradScaler(self.device.type)
        self.register_model(self.registered_name, self.model, self.optim, self.sched)

    def optimizer_and_schedule(self, parameters):
        """The optimizer of the trained parameters and its schedule, as the config names them."""
        optim = build_optimizer(parameters, self.cfg.OPTIM)
        return optim, build_lr_scheduler(optim, self.cfg.OPTIM)

    def unfreeze(self, names: list[str]) -> None:
        """Let parameter groups train (clipfit/groups.py), and print each with its count."""
        for group, parameters in groups.select(self.clip, names).items():
            print(f"  {group}: {groups.count(parameters.values()):,} parameters in {len(parameters)} tensors")
            for parameter in parameters.values():
                parameter.requires_grad_(True)

    def update_layernorm(self) -> None:
        """+UL: let the LayerNorms of the image encoder train beside what the method trains."""
        try:
            self.unfreeze(["image.layernorm"])
        except ValueError as error:
            reason = str(error).removeprefix("image.layernorm: ").partition(";")[0]
            raise ValueError(
                f"TRAINER.UPDATE_LAYERNORM: {reason}; choose a ViT backbone, or leave it False"
            ) from None

    def trained_parameters(self) -> dict[str, torch.nn.Parameter]:
        """Name -> parameter of everything that trains, in the model's order."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def ever_trained(self) -> dict[str, torch.nn.Parameter]:
        """Likewise of everything that trains at any time, which is less than all in a stage of a training."""
        return self.trained_parameters()

    def check_logit_scale(self, cfg) -> None:
        """Raises: ValueError for a LOGIT_SCALE of the method's node that is negative"""
        node = self._node()
        if cfg.TRAINER[node].LOGIT_SCALE < 0:
            raise ValueError(
                f"TRAINER.{node}.LOGIT_SCALE is {cfg.TRAINER[node].LOGIT_SCALE}; choose a factor, or 0"
            )

    def set_logit_scale(self, factor: float) -> None:
        """Multiply cosines by a factor in logits; 0: by the backbone's own."""
        if factor:
            with torch.no_grad():
                self.clip.logit_scale.fill_(math.log(factor))

    def tokenize(self, template: str) -> Tensor:
        """Token ids (K, L) of the run's classes in a template such as ``a photo of a {}.``.

        Raises: ValueError naming the class whose prompt is longer than the context
        """
        tokens = prompts.tokenize_for(self.clip, prompts.fill(template, self.classnames), self.classnames)
        unseen = prompts.untrained_tokens(self.clip, tokens, self.classnames)
        for token in dict.fromkeys(token for _, token in unseen):
            classes = [name for name, text in unseen if text == token]
            more = f" and {len(classes) - 1} more" if len(classes) > 1 else ""
            print(f"Warning: the backbone has never seen the token {token!r} (class {classes[0]!r}{more})")
        return tokens

    # Training ---------------------------------------------------------------------------------------

    def text_features(self) -> Tensor:
        """Unit text features (K, D) of the classes."""
        return self.encode_text(self.prompts)

    @torch.no_grad()
    def hand_written_features(self) -> Tensor:
        """Unit text features (K, D) of the template's prompts, for a teacher: call before anything trains."""
        with self.autocast():
            return self.encode_text(self.prompts)

    @torch.no_grad()
    def ensemble_features(self, templates: Sequence[str]) -> Tensor:
        """Unit text features (K, D) of several templates: the mean of each one's, normalized again."""
        with self.autocast():
            each = [self.encode_text(self.clip.embed_prompts(self.tokenize(text))) for text in templates]
        return normalize(sum(each) / len(each))

    def image_teacher(self) -> Callable[[Tensor], Tensor]:
        """What gives the features (B, D) of images (B, 3, H, W), not normalized, by the tower as it is now.

        Call it before anything trains, and what it returns without gradients.
        """
        if not self.cfg.TRAINER.UPDATE_LAYERNORM:
            return lambda images: self.frozen_features.of(images, self.clip.encode_image)
        tower = copy.deepcopy(self.clip.image_encoder)  # what trains later changes the other one
        return lambda images: tower(images.type(self.clip.dtype))

    def encode_text(self, prompts: Prompts) -> Tensor:
        """Unit text features (K, D) or (G, K, D) of prompts; under amp normalized and kept in fp32.

        Where the ranks of a run share a batch, and one pass serves it, each encodes its part of the classes.
        """
        count = len(prompts if isinstance(prompts, Tensor) else prompts.eot)
        shared = self._classes_are_shared(prompts, count)
        if shared:
            start, stop, *_ = ranks.part(count)
            prompts = prompts[start:stop] if isinstance(prompts, Tensor) else prompts.of_classes(start, stop)
        features = chunks.encode(self.clip.text_encoder, prompts, self.sizes.rows)
        features = normalize(features.float() if self.precision == "amp" else features)
        return GatherRows.apply(features, count) if shared else features

    def _classes_are_shared(self, prompts: Prompts | Tensor, count: int) -> bool:
        """Whether each rank encodes a part: not where images have prompts of their own, or dropout acts."""
        if not ranks.is_sharing() or count < ranks.size() or draws(self.clip.text_encoder):
            return False
        return isinstance(prompts, Tensor) or prompts.prefix.dim() == 2

    def image_features(self, images: Tensor) -> Tensor:
        """Image features (B, D) of images (B, 3, H, W), normalized or not; each of its image alone."""
        return self.frozen_features.of(images, self.clip.encode_image)

    def loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (scalar) and logits (B, K) of a batch (B, 3, H, W), (B,)."""
        return self.cross_entropy(images, labels, self.text_features())

    def cross_entropy(self, images: Tensor, labels: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Cross entropy of a batch with text features w (K, D) that no image changes, and logits (B, K)."""
        return self.in_micro_batches(self._cross_entropy, images, labels, w)

    def _cross_entropy(self, images: Tensor, labels: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.clip.logits(self.image_features(images), w)
        return cross_entropy(logits, labels), logits

    def in_micro_batches(self, losses: Losses, images: Tensor, labels: Tensor, w: Tensor) -> tuple:
        """`losses(images, labels, w)`, means over the images and then their logits, as memory allows.

        A loss that is no mean over images, such as one of w alone, is added to what this returns
        (clipfit/micro_batches.py).
        """
        trained = list(self.trained_parameters().values())
        most = self.sizes.images if self.image_tower_learns else len(images)
        return mean_losses(losses, images, labels, w, trained, most, self.scaled)

    @property
    def image_tower_learns(self) -> bool:
        """Whether a backward pass goes through the image tower; if not, it keeps nothing of its images."""
        return any(parameter.requires_grad for parameter in self.clip.image_encoder.parameters())

    def forward_backward(self, batch):
        images, labels = self.parse_batch_train(batch)
        summary = self.with_what_memory_allows(images, labels)
        ends_epoch = self.batch_idx + 1 == self.num_batches
        self._take_average(ends_epoch)
        if self.rate_per_step or ends_epoch:
            self.update_lr()
        return summary

    def average(self) -> Gaussian | Ema | None:
        """The average over training that is tested and saved in the place of the last weights, if any.

        Asked behind every step, so a stage of a training may have another than the one before.
        """
        return None

    def _take_average(self, ends_epoch: bool) -> None:
        average = self.average()
        share = None if average is None else average.share(self.epoch + 1, ends_epoch)
        if share is not None:
            self.averages.add(self.trained_parameters(), share)

    @cached_property
    def averages(self) -> RunningAverage:
        """What :meth:`average` has become so far."""
        return RunningAverage()

    def set_model_mode(self, mode="train", names=None):
        """In eval mode the parameters are the average so far, in train mode those that go on training."""
        super().set_model_mode(mode, names)
        if mode == "train":
            self.averages.hide()
        else:
            self.averages.show()

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One optimizer step. Returns the summary of its batch, on its device: nobody waits for it here."""
        with self.autocast():
            loss, logits = self.loss(images, labels)
        self.model_backward_and_update(loss)
        return {"loss": loss.detach(), "acc": compute_accuracy(logits, labels)[0]}

    def with_what_memory_allows(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """:meth:`step`; if a GPU runs out of memory, again with half the budget for activations."""
        while True:
            self._updating = False
            try:
                return (self._graphed_step or self.step)(images, labels)
            except torch.OutOfMemoryError as error:
                if self._updating or self.memory_gb / 2 < memory.LEAST:  # it is not the activations
                    raise
                ranks.tell_of_no_memory(error)
            self.halve_memory()

    def halve_memory(self) -> None:
        """Go on with half of MODEL.MEMORY_GB, which is another start: bits are those of the new value."""
        cfg, before = self.cfg, self.memory_gb
        if self._graphed_step is not None:
            self._graphed_step = GraphedStep(self)  # of micro-batches of another size
        self.model_zero_grad()
        torch.cuda.empty_cache()
        cfg.defrost()
        cfg.MODEL.MEMORY_GB = before / 2
        cfg.freeze()
        print(
            f"Out of memory: MODEL.MEMORY_GB goes from {before:g} to {cfg.MODEL.MEMORY_GB:g}, at most "
            f"{self.sizes.images:,} images and {self.sizes.rows:,} rows of text at a time"
        )
        self.note_new_start()

    @property
    def memory_gb(self) -> float:
        """The budget for activations."""
        return self.cfg.MODEL.MEMORY_GB or memory.default_budget(self.device)

    @property
    def sizes(self) -> memory.Sizes:
        """How much goes through the towers at a time."""
        return memory.sizes(self.clip, self.memory_gb)

    def model_backward(self, loss):
        self.detect_anomaly(loss)
        self.shared_backward(self.scaled(loss))

    def why_no_graph(self) -> str:
        return why_no_graph(self, CLIPTrainer)

    @contextmanager
    def without_update(self) -> Iterator[list[Tensor]]:
        """Inside, a step ends with its gradients, and its losses are put on this list, unchecked."""
        self._losses_without_update = losses = []
        try:
            yield losses
        finally:
            self._losses_without_update = None

    def detect_anomaly(self, loss):
        if self._losses_without_update is not None:
            self._losses_without_update.append(loss.detach())
            return
        super().detect_anomaly(loss)

    def model_update(self, names=None):
        if self._losses_without_update is not None:
            return
        self._updating = True
        if self.scaler is None:
            super().model_update(names)
            return
        self.scaler.step(self.optim)
        self.scaler.update()

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as its gradients are taken: under fp16 autocast times the gradient scaler's factor."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def autocast(self):
        """Mixed precision around every forward pass, in training and in tests; nothing unless PREC is amp."""
        if self.precision != "amp":
            return nullcontext()
        return torch.autocast(self.device.type, AMP_DTYPES[self.cfg.TRAINER.AMP_DTYPE])

    def parse_batch_train(self, batch):
        return self._images_and_labels(batch)

    def parse_batch_test(self, batch):
        return self._images_and_labels(batch)

    def _images_and_labels(self, batch):
        images, labels = super().parse_batch_test(batch)
        self.frozen_features.note(images, batch.get("pixels"))
        return images, labels

    # Testing ----------------------------------------------------------------------------------------

    def before_test(self):
        """Text features do not depend on the image: one pass serves the whole test."""
        with self.autocast():
            self._test_features = self.text_features()

    def after_test(self):
        self._test_features = None

    def model_inference(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W)."""
        with self.autocast():
            return self.clip.logits(self.image_features(images), self.features_of_classes())

    def features_of_classes(self) -> Tensor:
        """Unit text features (K, D), during a test those that all its images share."""
        return self.text_features() if self._test_features is None else self._test_features

    # Files ------------------------------------------------------------------------------------------

    def model_state(self, name):
        """The trained tensors, and the buffers that the method saves beside them; never all of CLIP."""
        return {key: tensor.detach() for key, tensor in self.saved_tensors().items()}

    def saved_tensors(self) -> dict[str, Tensor]:
        """Name -> tensor of what checkpoints hold."""
        every = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        saved = self.trained_parameters() | {key: every[key] for key in self.also_saved}
        return saved | self.averages.state()

    def load_model_state(self, name, state):
        """Load the trained tensors; frozen CLIP tensors in a file of the family are left alone.

        Raises: ValueError naming tensors that are missing, unknown or of another shape
        """
        state = {key: tensor for key, tensor in state.items() if key not in self.rebuilt}
        self.averages.forget()
        trained = self.saved_tensors()
        taken = {key: trained[key.removeprefix(LAST)] for key in state if key.removeprefix(LAST) in trained}
        known = self.model.state_dict().keys() | taken.keys()
        problems = [f"{key} is missing" for key in trained if key not in state]
        problems += [f"{key} is unknown" for key in state if key not in known]
        problems += [
            f"{key} has shape {tuple(state[key].shape)}, not {tuple(parameter.shape)}"
            for key, parameter in taken.items()
            if state[key].shape != parameter.shape
        ]
        if problems:
            more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise ValueError(
                f"the checkpoint does not fit what {self.cfg.TRAINER.NAME} trains on "
                f"{self.cfg.MODEL.BACKBONE.NAME}: {'; '.join(problems[:3])}{more}"
            )
        with torch.no_grad():
            for key, parameter in trained.items():
                parameter.copy_(state[key])
        self.averages.load(trained, state)
        frozen = len(state.keys() - taken.keys())
        left = f"; {frozen} frozen ones in the file are left aside" if frozen else ""
        print(f"  {len(trained)} trained tensors taken, {groups.count(trained.values()):,} parameters{left}")

    def save_result(self):
        self.frozen_features.close()
        if not ranks.is_first():
            return
        self.set_model_mode("eval")
        write_fit(os.path.join(self.output_dir, FOLDER), fit_of(self, CLIPTrainer))
        super().save_result()

    def describe(self):
        return {
            "precision": f"amp {self.cfg.TRAINER.AMP_DTYPE}" if self.precision == "amp" else self.precision,
            "template": self.template,
            "extras": self.extras(),
            "tuned_for_backbone": self.tuned_for_backbone,
            "inference": self.inference,
        }

    @property
    def tuned_for_backbone(self) -> bool | None:
        """False where a recipe runs on another backbone than its source's; None where nothing is known."""
        has_recipe = bool(self.cfg.RUN.PROTOCOL) and self.trains
        return False if has_recipe and self.cfg.MODEL.BACKBONE.NAME != RECIPES_BACKBONE else None

    def extras(self) -> list[str]:
        """What helped the run beside its training images and one prompt per class."""
        if self.cfg.TEST.FINAL_MODEL != "best_val" or not self._models:
            return []
        return ["test epoch" if validates_on_test(self.dm.dataset) else "val epoch"]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross entropy of logits (B, K), in fp32 whatever the precision of the model."""
    return F.cross_entropy(logits.float(), labels)


def mean_distance(w: Tensor, w0: Tensor) -> Tensor:
    """Mean over classes k of 1 - cos(w_k, w0_k), for (K, D) and (K, D), in fp32."""
    return 1 - F.cosine_similarity(w.float(), w0.float(), eps=1e-7).mean()
