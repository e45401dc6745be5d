"""Tip-Adapter against its formulas, written out plainly."""

import math

import pytest
import torch
from torch.nn import functional as F

from clipfit.prompts import fill
from dassl.data.transforms import build_transform
from dassl.utils import read_image
from tests.trainers.plain import embed, encode, plain_clip, record_training, unit

ALPHA, BETA = 1.17, 1.0


def tip(build, small_clip, *words):
    return build("TipAdapter", "--backbone=" + str(small_clip), *words)


def plain_text(model, names):
    tokens, rows = embed(model, fill("a photo of a {}.", names))
    return encode(model, rows, tokens)


def plain_images(model, cfg, items):
    """Unit features (B, D) and labels (B,) of listed images, in the test transform."""
    transform = build_transform(cfg, is_train=False)
    images = torch.stack([transform(read_image(item.impath)) for item in items])
    return unit(model.encode_image(images)), torch.tensor([item.label for item in items])


def plain_logits(x, text, keys, values, alpha, beta):
    return (100 * x) @ text.t() + alpha * (torch.exp(-(beta - beta * (x @ keys.t()))) @ values)


class AdamW:
    """The formulas, over one tensor."""

    def __init__(self, tensor, lr=0.001, betas=(0.9, 0.999), eps=1e-4, decay=0.01):
        self.tensor, self.lr, self.betas, self.eps, self.decay = tensor, lr, betas, eps, decay
        self.m, self.v, self.t = torch.zeros_like(tensor), torch.zeros_like(tensor), 0

    def step(self, gradient, factor):
        (b1, b2), lr = self.betas, self.lr * factor
        self.t += 1
        self.m = b1 * self.m + (1 - b1) * gradient
        self.v = b2 * self.v + (1 - b2) * gradient**2
        denominator = (self.v / (1 - b2**self.t)).sqrt() + self.eps
        with torch.no_grad():
            self.tensor -= lr * self.decay * self.tensor
            self.tensor -= lr * self.m / (1 - b1**self.t) / denominator


def test_the_loss_follows_the_formulas_step_by_step(build, small_clip):
    trainer = tip(build, small_clip, *("OPTIM.MAX_EPOCH", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 48))
    model = plain_clip(small_clip)
    text = plain_text(model, trainer.classnames)
    keys, labels = plain_images(model, trainer.cfg, trainer.dm.dataset.train_x)  # crops are off: one view
    keys, values = keys.clone().requires_grad_(True), F.one_hot(labels).float()
    steps, summaries = record_training(trainer)
    assert len(steps) == 2 * 4  # 160 images, and no batch is left out

    adamw, expected = AdamW(keys), []
    for step, (_, images, labels) in enumerate(steps):
        logits = plain_logits(unit(model.encode_image(images)), text, keys, values, ALPHA, BETA)
        loss = F.cross_entropy(logits, labels)
        adamw.step(torch.autograd.grad(loss, keys)[0], (1 + math.cos(math.pi * step / len(steps))) / 2)
        expected.append(loss.item())
    assert [summary["loss"] for summary in summaries] == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(trainer.cache.keys, keys, rtol=1e-4, atol=1e-5)


def test_a_key_is_the_normalized_mean_of_augmented_views(build, small_clip):
    trainers = [
        build(
            *("TipAdapter", "--backbone=" + str(small_clip), "TRAINER.TIPADAPTER.AUGMENT_EPOCH", views),
            *("DATASET.NUM_SHOTS", 2, "DATALOADER.TRAIN_X.BATCH_SIZE", 8),
            transforms="('random_resized_crop', 'normalize')",
        )
        for views in (1, 10, 10)
    ]
    for trainer in trainers:
        trainer.build_cache()
    one, ten, again = (trainer.cache.keys for trainer in trainers)
    torch.testing.assert_close(ten.norm(dim=-1), torch.ones(20))
    assert torch.equal(ten, again)
    whole, _ = plain_images(plain_clip(small_clip), trainers[0].cfg, trainers[0].dm.dataset.train_x)
    assert (ten * whole).sum(-1).mean() > (one * whole).sum(-1).mean()  # the mean varies less than one view
    assert trainers[0].cfg.INPUT.RRCROP_SCALE[0] == 0.5


@pytest.mark.parametrize("search", ["val", "test"])
def test_the_search_takes_the_first_best_pair_of_the_grid(search, build, small_clip, result):
    words = ("TRAINER.TIPADAPTER.FINETUNE", "False", "TRAINER.TIPADAPTER.SEARCH", search)
    trainer = tip(
        build, small_clip, *words, "TRAINER.TIPADAPTER.SEARCH_STEP", "[7, 5]", "DATASET.NUM_SHOTS", "-1"
    )
    trainer.train()
    model, data = plain_clip(small_clip), trainer.dm.dataset
    text = plain_text(model, trainer.classnames)
    keys, labels = plain_images(model, trainer.cfg, data.train_x)
    x, truth = plain_images(model, trainer.cfg, data.val if search == "val" else data.test)
    found = (-1, None)
    for i in range(7):
        for j in range(5):
            beta, alpha = 0.1 + i * (7 - 0.1) / 7, 0.1 + j * (3 - 0.1) / 5
            logits = plain_logits(x, text, keys, F.one_hot(labels).float(), alpha, beta)
            correct = int((logits.argmax(-1) == truth).sum())
            if correct > found[0]:
                found = (correct, (alpha, beta))
    assert (float(trainer.cache.alpha), float(trainer.cache.beta)) == pytest.approx(found[1], rel=1e-6)
    record = result(trainer.output_dir)
    assert record["extras"][0] == f"{search} search"
    if search == "test":
        assert record["correct"] == found[0]


def test_without_validation_images_of_its_own_the_published_values_stay(
    build, small_clip, result, capsys, monkeypatch
):
    monkeypatch.setattr("datasets.demo.Demo.val", property(lambda self: self.test))
    trainer = tip(build, small_clip, "OPTIM.MAX_EPOCH", 1)
    trainer.train()
    assert (float(trainer.cache.alpha), float(trainer.cache.beta)) == pytest.approx((ALPHA, BETA))
    assert "alpha and beta stay at their initial values" in capsys.readouterr().out
    assert result(trainer.output_dir)["extras"] == []


def test_the_oracle_keeps_the_keys_of_the_best_epoch_and_is_labelled(build, small_clip, result):
    words = ("TRAINER.TIPADAPTER.SEARCH", "test", "OPTIM.MAX_EPOCH", 3, "OPTIM.LR", 0.3)
    trainer = tip(build, small_clip, *words, "DATASET.NUM_SHOTS", 4)
    epochs, original = [], trainer.after_epoch

    def recording():
        if trainer.epoch == 2:
            trainer.cache.keys.data.zero_()  # the last epoch is a bad one
        epochs.append(trainer.cache.keys.detach().clone())
        original()

    trainer.after_epoch = recording
    trainer.train()
    model, data = plain_clip(small_clip), trainer.dm.dataset
    x, truth = plain_images(model, trainer.cfg, data.test)
    text = plain_text(model, trainer.classnames)
    values = F.one_hot(torch.tensor([item.label for item in data.train_x])).float()
    scores = [(plain_logits(x, text, keys, values, ALPHA, BETA).argmax(-1) == truth).sum() for keys in epochs]
    assert torch.equal(trainer.cache.keys, epochs[scores.index(max(scores))]) and scores[-1] < max(scores)
    assert result(trainer.output_dir)["extras"] == ["test search", "test epoch"]


@pytest.mark.parametrize(
    "words, message",
    [
        (("TRAINER.UPDATE_LAYERNORM", "True"), "UPDATE_LAYERNORM: .*frozen image encoder"),
        (("TRAINER.TIPADAPTER.SEARCH", "train"), "SEARCH is 'train'; choose val or test"),
        (
            ("--protocol=cross_dataset",),
            "knows only the classes .* no cross_dataset protocol; choose few_shot",
        ),
        (("--protocol=cross_dataset", "--eval-only"), "knows only the classes .* no cross_dataset protocol"),
        (("--eval-only",), "knows only the classes .* no test on new classes"),
    ],
)
def test_what_has_no_meaning_is_refused(words, message, build, small_clip):
    with pytest.raises(ValueError, match=message):
        tip(build, small_clip, *words)


def test_every_key_trains_on_a_full_size_backbone(build, shared_random_weights, capsys):
    trainer = build("TipAdapter", "--backbone=random:ViT-B/16")
    assert {name: tuple(p.shape) for name, p in trainer.trained_parameters().items()} == {
        "cache.keys": (10 * 16, 512)
    }
    assert "Training 81,920 of" in capsys.readouterr().out


def test_tested_classes_find_their_images_by_name_and_unknown_ones_are_named(build, small_clip):
    trainer = tip(build, small_clip, "TRAINER.TIPADAPTER.FINETUNE", "False")
    trainer.build_cache()
    images = next(iter(trainer.test_loader))["img"][:8]
    expected, state = trainer.model_inference(images), trainer.model_state("tip_adapter")

    few = tip(build, small_clip, "DATASET.NUM_SHOTS", 1)  # its own list of images is of another length
    few.load_model_state("tip_adapter", state)
    torch.testing.assert_close(few.model_inference(images), expected)

    some = [7, 2, 4]
    few.classnames, few.w = [trainer.classnames[i] for i in some], trainer.w[some]
    few.cache.values.data = few.cache.values[:, :3]
    few.load_model_state("tip_adapter", state)
    torch.testing.assert_close(few.model_inference(images), expected[:, some])

    few.classnames = [*few.classnames[:2], "zebra"]
    with pytest.raises(ValueError, match="knows only the classes of its training.* 1 of the 3 .*'zebra'"):
        few.load_model_state("tip_adapter", state)


def test_the_cache_holds_every_image_whatever_the_sampler(build, small_clip):
    """RandomClassSampler leaves out what fills no group of 5; the keys stay in the order of the list."""
    words = ("DATALOADER.TRAIN_X.SAMPLER", "RandomClassSampler", "DATALOADER.TRAIN_X.N_INS", 5)
    trainer = tip(build, small_clip, *words, "DATALOADER.TRAIN_X.BATCH_SIZE", 50)
    trainer.build_cache()
    keys, _ = plain_images(plain_clip(small_clip), trainer.cfg, trainer.dm.dataset.train_x)
    torch.testing.assert_close(trainer.cache.keys, keys, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("finetune", [True, False])
def test_a_trained_cache_gives_the_same_accuracy_in_another_run(finetune, build, result, tmp_path):
    zero_shot = build("ZeroshotCLIP").test()
    few = ("AUGMENT_EPOCH", 2, "SEARCH_STEP", "[20, 5]", "FINETUNE", finetune)
    few = [f"TRAINER.TIPADAPTER.{word}" if i % 2 == 0 else word for i, word in enumerate(few)]
    trainer = build("TipAdapter", *few, "OPTIM.MAX_EPOCH", 2)
    trainer.train()
    record = result(trainer.output_dir)
    assert record["accuracy"] > zero_shot + 5
    assert record["extras"] == ["val search"]
    assert record["trainable_params"] == (160 * 64 if finetune else 0)

    other = ("DATASET.NUM_SHOTS", 2, "DATASET.SUBSAMPLE_CLASSES", "base")  # another list of training images
    again = build("TipAdapter", "--eval-only", *few, *other)
    again.load_model(tmp_path / "run")
    assert again.test() == pytest.approx(record["accuracy"])
    assert again.result()["extras"] == ["val search"]


def test_the_few_shot_model_is_tested_on_shifted_images(run_train, result, tmp_path):
    words = ("--trainer", "TipAdapter", "--seed", 1, "--shots", 1)
    quick = ("OPTIM.MAX_EPOCH", 1, "TRAINER.TIPADAPTER.SEARCH_STEP", "[5, 3]")
    assert run_train(*words, "--protocol", "few_shot", *quick) is None
    assert run_train(*words, "--protocol", "domain_shift", "--eval-only", *quick, dataset="demo_v2") is None
    (shifted,) = (tmp_path / "output/domain_shift").glob("**/seed1")
    record = result(shifted)
    assert (record["dataset"], record["num_classes"], record["extras"]) == ("DemoV2", 20, ["val search"])
    assert record["accuracy"] > 20  # of twenty classes
