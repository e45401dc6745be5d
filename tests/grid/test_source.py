"""Class attributes read without importing."""

from grid.source import attribute, classes

CODE = """
from base import Above
class Above(object):
    version: int = 3
    first, second = 1, COMPUTED
class Below(module.Above):
    folder = "below"
class Own(Below):
    version = 4
"""


def test_the_nearest_class_decides(tmp_path):
    (tmp_path / "some.py").write_text(CODE)
    found = {name: attribute(tmp_path, name, "version", 1) for name in (*classes(tmp_path), "Unknown")}
    assert found == {"Above": 3, "Below": 3, "Own": 4, "Unknown": 1}
    assert attribute(tmp_path, "Own", "folder", None) == "below"
    assert (
        attribute(tmp_path, "Own", "first", None) == 1 and attribute(tmp_path, "Own", "second", None) is None
    )
