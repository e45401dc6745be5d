"""How pictures are loaded changes no bit of what a run writes."""

from pathlib import Path

import pytest

from dassl.data.kept_pictures import FOLDER

WRITTEN = ("metrics.jsonl", "predictions.jsonl")


@pytest.fixture
def written(run_train, tmp_path, monkeypatch):
    """What a short run writes, as bytes, by file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("dassl.data.kept_pictures.SETTLED", -3600 * 10**9)  # the embedded pictures are new

    def run(trainer, folder, *pairs):
        words = ["--trainer", trainer, "--seed", 1, "--shots", 1, "--output-dir", tmp_path / folder]
        assert run_train(*words, "VERBOSE", "False", "OPTIM.MAX_EPOCH", 2, *pairs) is None
        return {name: Path(tmp_path, folder, name).read_bytes() for name in WRITTEN}

    return run


def kept(tmp_path):
    return list((tmp_path / "cache/clipfit" / FOLDER).glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["CLIPFit", "TipAdapter"])
def test_kept_pictures_and_bytes_change_no_result(trainer, written, tmp_path, monkeypatch):
    without = written(trainer, "without", "DATALOADER.TEST_CACHE_GB", 0)
    assert not kept(tmp_path)
    assert written(trainer, "keeping") == without
    assert len(kept(tmp_path)) >= 1

    monkeypatch.setattr("dassl.data.kept_pictures.KeptPictures.put", None)  # all are found
    assert written(trainer, "kept") == without

    monkeypatch.setattr("trainers.base.CLIPTrainer.send_as_bytes", lambda self, *loaders: None)
    assert written(trainer, "floats", "DATALOADER.TEST_CACHE_GB", 0) == without
