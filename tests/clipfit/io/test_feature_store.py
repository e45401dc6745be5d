"""The store of image features: what belongs to an entry, damage, room, several writers."""

import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

from clipfit.io.feature_store import FeatureStore


def features(number, dtype=torch.float32):
    return torch.randn(4, 16, generator=torch.Generator().manual_seed(number)).to(dtype)


@pytest.fixture
def store(tmp_path):
    return lambda context="tower", gb=1.0: FeatureStore(tmp_path, gb * 1e9, context)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_another_run_gets_the_same_bits(dtype, store):
    store().put("batch", features(1, dtype))
    found = store().get("batch", "cpu")
    assert found.dtype == dtype and torch.equal(found, features(1, dtype))
    assert store().get("another batch", "cpu") is None
    assert store("another tower").get("batch", "cpu") is None


@pytest.mark.parametrize("column, value", [("content", b"\0" * 256), ("shape", "16 4"), ("dtype", "int32")])
def test_a_poisoned_entry_is_noticed_and_replaced(column, value, store):
    one = store()
    one.put("batch", features(1))
    with sqlite3.connect(one.path) as database:
        database.execute(f"UPDATE features SET {column} = ?", (value,))
    assert store().get("batch", "cpu") is None
    store().put("batch", features(1))
    assert torch.equal(store().get("batch", "cpu"), features(1))


def test_an_entry_moved_to_another_key_is_noticed(store):
    one = store()
    one.put("batch", features(1))
    with sqlite3.connect(one.path) as database:
        database.execute("UPDATE features SET key = ?", (one._key("other"),))
    assert store().get("other", "cpu") is None


@pytest.mark.parametrize("damage", [b"no database at all", b""])
def test_a_damaged_store_is_made_anew(damage, store):
    one = store()
    one.put("batch", features(1))
    one.close()
    one.path.write_bytes(damage)
    other = store()
    assert other.get("batch", "cpu") is None
    other.put("batch", features(1))
    assert torch.equal(store().get("batch", "cpu"), features(1))


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("")
    store = FeatureStore(tmp_path / "file", 1e9, "tower")
    store.put("batch", features(1))
    assert store.get("batch", "cpu") is None


def test_what_was_not_asked_for_longest_makes_room(store):
    small = store(gb=60e-6)
    for number in range(40):
        small.put(f"{number}", torch.zeros(4, 256))  # 4 kB each
    database = sqlite3.connect(small.path)
    (count,) = database.execute("SELECT count(*) FROM features").fetchone()
    assert 5 <= count < 15 and small._used() <= 60e3
    assert small.get("39", "cpu") is not None
    small.put("large", torch.zeros(100, 256))  # alone too large
    assert small.get("large", "cpu") is None and small.get("39", "cpu") is not None


def write(folder, number):
    store = FeatureStore(folder, 1e9, "tower")
    for batch in range(20):
        store.put(f"{batch}", features(batch))
    return number


def test_several_processes_may_write_at_once(tmp_path, store):
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        assert sorted(pool.map(write, [tmp_path] * 3, range(3))) == [0, 1, 2]
    found = [store().get(f"{batch}", "cpu") for batch in range(20)]
    assert all(torch.equal(one, features(batch)) for batch, one in enumerate(found))
