"""Lists that data set files of the family pickled under Dassl load here, and the reverse."""

import pickle

import pytest
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, base_dataset, build_dataset


class DasslDatum:
    """Dassl's class as a pickle sees it: plain, its four values in its `__dict__`."""

    def __init__(self, impath, label, domain, classname):
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname


DasslDatum.__module__, DasslDatum.__qualname__ = "dassl.data.datasets.base_dataset", "Datum"


@pytest.fixture
def under_dassl(monkeypatch):
    """Call a function while the name of the pickled class means Dassl's class."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(base_dataset, "Datum", DasslDatum)
            return function(*args)

    return call


def values(datum):
    return datum.impath, datum.label, datum.domain, datum.classname


def own_state(datum):
    return datum._impath, datum._label, datum._domain, datum._classname


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_dassl_pickled_loads(protocol, under_dassl):
    one = DasslDatum("/data/a.jpg", 3, 1, "a cat")
    (read,) = pickle.loads(under_dassl(pickle.dumps, [one], protocol))
    assert type(read) is Datum and values(read) == ("/data/a.jpg", 3, 1, "a cat")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_pickled_here_loads_here_and_under_dassl(protocol, under_dassl):
    pickled = pickle.dumps(Datum("b.jpg", 2, 0, "dog"), protocol)
    assert values(pickle.loads(pickled)) == ("b.jpg", 2, 0, "dog")
    read = under_dassl(pickle.loads, pickled)
    assert type(read) is DasslDatum and own_state(read) == ("b.jpg", 2, 0, "dog")


def test_what_an_earlier_version_pickled_loads():
    pickled = bytes.fromhex(
        "80049576000000000000008c20646173736c2e646174612e64617461736574732e626173655f64617461736574948c05"
        "446174756d9493942981944e7d94288c075f696d70617468948c05632e6a7067948c065f6c6162656c944b058c075f64"
        "6f6d61696e944b018c0a5f636c6173736e616d65948c046269726494758694622e"
    )
    assert values(pickle.loads(pickled)) == ("c.jpg", 5, 1, "bird")


def test_attributes_that_a_plugin_adds_are_kept(under_dassl):
    datum = Datum("a.jpg")
    datum.caption = "a photo"
    assert pickle.loads(pickle.dumps(datum)).caption == "a photo"
    foreign = DasslDatum("a.jpg", 0, 0, "cat")
    foreign.caption = "a photo"
    assert pickle.loads(under_dassl(pickle.dumps, foreign)).caption == "a photo"


@DATASET_REGISTRY.register()
class KeepsItsPicks(DatasetBase):
    """Reads its few-shot picks as the data set files of CoOp do."""

    def __init__(self, cfg):
        with open(
            f"{cfg.DATASET.ROOT}/split_fewshot/shot_{cfg.DATASET.NUM_SHOTS}-seed_{cfg.SEED}.pkl", "rb"
        ) as file:
            data = pickle.load(file)
        super().__init__(train_x=data["train"], val=data["val"], test=data["val"])


def test_a_data_set_file_finds_the_picks_that_it_kept_under_dassl(tmp_path, under_dassl):
    items = []
    for number in range(4):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")
        items.append(DasslDatum(str(tmp_path / f"{number}.png"), number % 2, 0, f"class {number % 2}"))
    (tmp_path / "split_fewshot").mkdir()
    path = tmp_path / "split_fewshot" / "shot_16-seed_1.pkl"
    path.write_bytes(under_dassl(pickle.dumps, {"train": items[:2], "val": items[2:]}))

    cfg = get_cfg_default()
    pairs = [
        "DATASET.ROOT",
        str(tmp_path),
        "DATASET.NAME",
        "KeepsItsPicks",
        "DATASET.NUM_SHOTS",
        16,
        "SEED",
        1,
    ]
    cfg.merge_from_list(pairs)
    dataset = build_dataset(cfg)
    assert list(map(values, dataset.train_x)) == list(map(own_state, items[:2]))
    assert dataset.classnames == ["class 0", "class 1"] and len(dataset.val) == 2
