"""DataManager, DatasetWrapper and the loaders: which batches come, in which order, how augmented."""

import copy
import random

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data import DataManager, DatasetWrapper, build_data_loader
from dassl.data.data_manager import usable_workers, worthwhile_workers
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.data.transforms import build_transform
from dassl.utils import read_image

COUNT = 10


@DATASET_REGISTRY.register()
class TenNoiseImages(DatasetBase):
    """Ten images of two classes; the same lists for train and test, no validation."""

    def __init__(self, cfg):
        items = noise_images(cfg.DATASET.ROOT)
        super().__init__(train_x=items, test=items)


def noise_images(folder):
    items = []
    for number in range(COUNT):
        path = f"{folder}/{number}.png"
        pixels = np.random.RandomState(number).randint(0, 256, (20 + number, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        items.append(Datum(path, label=number % 2, classname=f"c{number % 2}"))
    return items


@pytest.fixture
def cfg(tmp_path):
    cfg = get_cfg_default()
    cfg.merge_from_list(["DATASET.ROOT", str(tmp_path), "DATASET.NAME", "TenNoiseImages", "SEED", 1])
    cfg.INPUT.SIZE = (8, 8)
    cfg.INPUT.TRANSFORMS = ("random_resized_crop", "random_flip", "colorjitter", "normalize")
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 4
    cfg.DATALOADER.TEST.BATCH_SIZE = 4
    return cfg


@pytest.fixture
def forking(monkeypatch):
    """As many workers as asked for, whatever the machine."""
    monkeypatch.setattr("dassl.data.data_manager.usable_workers", lambda requested: requested)


def one_pass(loader):
    """Order and pixels of a pass."""
    batches = list(loader)
    return [batch["index"].tolist() for batch in batches], torch.cat([batch["img"] for batch in batches])


def same(a, b):
    return a[0] == b[0] and torch.equal(a[1], b[1])


def test_batches_hold_what_trainers_read(cfg):
    manager = DataManager(cfg)
    batch = next(iter(manager.train_loader_x))
    assert set(batch) == {"img", "label", "domain", "impath", "index"}
    assert batch["img"].shape == (4, 3, 8, 8) and batch["img"].dtype == torch.float32
    assert batch["label"].dtype == batch["domain"].dtype == batch["index"].dtype == torch.int64
    assert batch["impath"] == [manager.dataset.train_x[index].impath for index in batch["index"]]
    assert manager.num_classes == 2 and manager.lab2cname == {0: "c0", 1: "c1"}
    assert manager.val_loader is None and manager.train_loader_u is None


@pytest.mark.parametrize("batch_size, sizes", [(4, [4, 4]), (32, [10]), (10, [10])])
def test_training_drops_an_incomplete_batch_unless_it_is_the_only_one(batch_size, sizes, cfg):
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = batch_size
    manager = DataManager(cfg)
    assert [len(batch["label"]) for batch in manager.train_loader_x] == sizes
    assert len(manager.train_loader_x) == len(sizes)
    assert [batch["index"].tolist() for batch in manager.test_loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_training_loader_keeps_the_incomplete_batch_if_asked_to(cfg):
    items = DataManager(cfg).dataset.train_x
    loader = build_data_loader(cfg, "SequentialSampler", items, 4, is_train=True, drop_last=False)
    assert [batch for batch in loader.batch_sampler] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("workers", [1, 2])
def test_order_and_augmentation_do_not_depend_on_the_number_of_workers(workers, cfg, forking):
    cfg.INPUT.TRANSFORMS += ("cutout", "gaussian_noise", "random_translation", "randaugment", "gaussian_blur")
    cfg.INPUT.GB_K = 3
    alone = DataManager(cfg).train_loader_x
    cfg.DATALOADER.NUM_WORKERS = workers
    helped = DataManager(cfg).train_loader_x
    for epoch in (0, 1):
        alone.sampler.set_epoch(epoch)
        helped.sampler.set_epoch(epoch)
        assert same(one_pass(alone), one_pass(helped))
        assert same(one_pass(alone), one_pass(helped))  # the epoch's second pass, living workers


def test_every_epoch_and_every_pass_differs_and_an_epoch_can_be_repeated(cfg):
    loader = DataManager(cfg).train_loader_x
    loader.sampler.set_epoch(3)
    first, second = one_pass(loader), one_pass(loader)
    loader.sampler.set_epoch(4)
    next_epoch = one_pass(loader)
    assert len({str(order) for order, _ in (first, second, next_epoch)}) == 3

    resumed = DataManager(cfg).train_loader_x
    resumed.sampler.set_epoch(3)
    assert same(one_pass(resumed), first)


def test_an_image_is_augmented_anew_in_every_epoch(cfg):
    cfg.DATALOADER.TRAIN_X.SAMPLER = "SequentialSampler"
    loader = DataManager(cfg).train_loader_x
    (order, first), (same_order, second) = one_pass(loader), one_pass(loader)
    assert order == same_order
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_seeds_differ_and_a_negative_seed_is_drawn(cfg):
    def images(seed):
        cfg.SEED = seed
        return one_pass(DataManager(cfg).train_loader_x)

    assert same(images(1), images(1))
    assert not same(images(1), images(2))
    assert not same(images(-1), images(-1))


@pytest.mark.parametrize("workers", [0, 2])
def test_passes_leave_the_global_generators_alone(workers, cfg, forking):
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.DATALOADER.TRAIN_X.SAMPLER = "RandomClassSampler"
    cfg.DATALOADER.TRAIN_X.N_INS = 2
    manager = DataManager(cfg)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for loader in (manager.train_loader_x, manager.test_loader):
        list(loader)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_a_plugins_transform_may_draw_from_any_generator(cfg, forking):
    def transform(image):
        return torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])

    alone = DataManager(cfg, custom_tfm_train=transform).train_loader_x
    cfg.DATALOADER.NUM_WORKERS = 2
    helped = DataManager(cfg, custom_tfm_train=transform).train_loader_x
    order, draws = one_pass(alone)
    assert same((order, draws), one_pass(helped))
    assert len(draws.unique()) == draws.numel()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_live_loader_can_be_copied_and_given_another_transform(workers, cfg, forking):
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = DataManager(cfg).train_loader_x
    running = iter(loader)
    next(running)

    copied = copy.deepcopy(loader)
    copied.dataset.transform = build_transform(cfg, is_train=False)
    order, images = one_pass(copied)
    for index, image in zip(sum(order, []), images, strict=True):
        plain = copied.dataset.transform(read_image(loader.dataset.data_source[index].impath))
        assert torch.equal(image, plain)
    next(running)  # the original goes on

    loader.dataset.transform = copied.dataset.transform  # its workers hear of it, too
    order, images = one_pass(loader)
    image = loader.dataset.transform(read_image(loader.dataset.data_source[order[0][0]].impath))
    assert torch.equal(images[0], image)


def test_several_transforms_give_several_images(cfg):
    plain = build_transform(cfg, is_train=False)
    manager = DataManager(cfg, custom_tfm_train=[build_transform(cfg), plain])
    batch = next(iter(manager.train_loader_x))
    assert {"img", "img2"} <= set(batch) and "img3" not in batch
    assert torch.equal(batch["img2"][0], plain(read_image(batch["impath"][0])))


def test_k_transforms_give_k_results_in_training_only(cfg):
    cfg.DATALOADER.K_TRANSFORMS = 2
    manager = DataManager(cfg)
    images = next(iter(manager.train_loader_x))["img"]
    assert len(images) == 2 and images[0].shape == (4, 3, 8, 8)
    assert not torch.equal(images[0], images[1])
    assert next(iter(manager.test_loader))["img"].shape == (4, 3, 8, 8)

    cfg.INPUT.NO_TRANSFORM = True
    with pytest.raises(ValueError, match="K_TRANSFORMS is 2, but there is no transform"):
        DataManager(cfg)


def test_img0_is_the_whole_image_at_the_input_size(cfg):
    cfg.DATALOADER.RETURN_IMG0 = True
    cfg.INPUT.TRANSFORMS = ("random_resized_crop",)
    manager = DataManager(cfg)
    for loader in (manager.train_loader_x, manager.test_loader):
        batch = next(iter(loader))
        resized = read_image(batch["impath"][0]).resize((8, 8), Image.BILINEAR)
        expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
        torch.testing.assert_close(batch["img0"][0], expected)


def test_a_plugins_wrapper_and_a_plain_index_work(cfg):
    class Wrapper(DatasetWrapper):
        def __getitem__(self, idx):
            return super().__getitem__(idx) | {"twice": 2 * idx}

    loader = DataManager(cfg, dataset_wrapper=Wrapper).train_loader_x
    batch = next(iter(loader))
    assert batch["twice"].tolist() == [2 * index for index in batch["index"]]

    torch.manual_seed(0)
    assert not torch.equal(loader.dataset[3]["img"], loader.dataset[3]["img"])  # from the global generators


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_or_vanished_image_is_named(workers, cfg, forking):
    cfg.DATALOADER.NUM_WORKERS = workers
    manager = DataManager(cfg)
    path = manager.dataset.test[5].impath
    with open(path, "rb") as file:
        head = file.read(200)
    with open(path, "wb") as file:
        file.write(head)
    for loader in (manager.train_loader_x, manager.test_loader):
        with pytest.raises(OSError, match="5.png"):
            list(loader)


def test_an_image_that_is_missing_from_the_start_is_named(tmp_path):
    items = [Datum(str(tmp_path / f"{number}.png"), classname="c") for number in range(5)]
    with pytest.raises(FileNotFoundError, match=r"(?s)5 of 5 images do not exist.*0.png.*and 2 more"):
        DatasetBase(train_x=items)


def test_lists_that_cannot_be_a_data_set_are_refused():
    with pytest.raises(TypeError, match="impath is 3"):
        Datum(3)
    with pytest.raises(ValueError, match="train_x is empty"):
        DatasetBase(train_x=[])
    with pytest.raises(ValueError, match="label 0 has two names, 'a' and 'b'"):
        DatasetBase(train_x=[Datum("1", 0, 0, "a"), Datum("2", 0, 0, "b")])


def test_a_loader_without_a_batch_is_refused(cfg, tmp_path):
    with pytest.raises(ValueError, match="empty list"):
        build_data_loader(cfg, data_source=[])
    items = noise_images(tmp_path)
    with pytest.raises(ValueError, match="RandomClassSampler makes no complete batch of 10"):
        # 4 of the 5 images of either class: 8, fewer than a batch of the 10 images there are
        build_data_loader(cfg, "RandomClassSampler", items, batch_size=10, n_ins=4, tfm=build_transform(cfg))


def test_few_shot_picks_of_plugins_come_from_the_global_generator():
    items = [Datum(str(number), label=number // 5) for number in range(10)]
    random.seed(7)
    picked = DatasetBase.generate_fewshot_dataset(None, items, num_shots=2)
    random.seed(7)
    assert picked == random.sample(items[:5], 2) + random.sample(items[5:], 2)
    assert DatasetBase.generate_fewshot_dataset(None, items) is items
    assert DatasetBase.generate_fewshot_dataset(None, items, items) == (items, items)
    assert len(DatasetBase.generate_fewshot_dataset(None, items, num_shots=8)) == 10
    assert len(DatasetBase.generate_fewshot_dataset(None, items, num_shots=8, repeat=True)) == 16


@pytest.mark.parametrize(
    "cores, images, batch_size, passes, workers",
    [
        (16, 99, 10, 1, 0),  # a start would cost more than it brings
        (16, 100, 10, 1, 1),
        (16, 20, 10, 10, 2),  # workers live as long as the run, so epochs count; two batches, two workers
        (16, 50_000, 100, 1, 8),
        (2, 50_000, 100, 1, 2),
        (1, 50_000, 100, 1, 0),
    ],
)
def test_the_default_starts_only_workers_that_pay(cores, images, batch_size, passes, workers, monkeypatch):
    monkeypatch.setattr("dassl.data.data_manager.available_cores", lambda: cores)
    assert worthwhile_workers(images, batch_size, passes) == workers


def test_few_images_are_read_by_the_run_itself_unless_workers_are_asked_for(cfg, monkeypatch, forking):
    monkeypatch.setattr("dassl.data.data_manager.available_cores", lambda: 8)
    cfg.DATALOADER.NUM_WORKERS, cfg.OPTIM.MAX_EPOCH = -1, 30
    manager = DataManager(cfg)
    assert manager.test_loader.num_workers == 0 and manager.train_loader_x.num_workers == 3
    cfg.DATALOADER.NUM_WORKERS = 2
    assert DataManager(cfg).test_loader.num_workers == 2


def test_no_more_workers_than_cores(capsys):
    usable_workers.cache_clear()
    assert usable_workers(10_000) == usable_workers(10_000) < 10_000
    assert capsys.readouterr().out.count("DATALOADER.NUM_WORKERS is 10000") == 1


def test_the_summary_shows_what_there_is(cfg, capsys):
    DataManager(cfg)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Dataset", "TenNoiseImages"] in rows
    assert ["#", "classes", "2"] in rows and ["#", "train_x", "10"] in rows and ["#", "test", "10"] in rows
    assert not any("val" in row for row in rows)
