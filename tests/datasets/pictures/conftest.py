"""Small pictures in the folders that a test asks for."""

import zlib

import pytest
from PIL import Image


@pytest.fixture
def draw(tmp_path):
    """Make picture files below ``tmp_path``, each of another content; returns their paths."""

    def draw(*names, content=""):
        paths = []
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = zlib.crc32((content or str(name)).encode())
            Image.new("RGB", (8 + seed % 5, 8), tuple(seed.to_bytes(4)[:3])).save(path)
            paths.append(path)
        return paths

    return draw
