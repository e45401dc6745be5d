"""Draw a folder as people have it: a folder per class, several formats and sizes, names of all kinds.

    python scripts/demo/photos.py data/my_photos

Among the pictures are a broken one, a copy and a text file, and one class has a single picture.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from clipfit.io.commands import PATH  # noqa: E402
from datasets.drawing.picture import draw  # noqa: E402

PER_CLASS = 24
CLASSES = {  # folder -> what is drawn
    "dotted_red_flower": "dotted red flower",
    "rayed-pink-flower": "rayed pink flower",
    "striped green leaf": "striped green leaf",
    "netted_green_leaf": "netted green leaf",
    "checkered_teal_tree": "checkered teal tree",
    "wavy_green_tree": "wavy green tree",
}
LONELY = "striped_brown_leaf"
NAMES = (
    "IMG_{:04d}.JPG",
    "photo {}.png",
    "fle\u0301ur-{}.webp",
    "scan.{}.tif",
    "{} (2).jpeg",
    "P{:07d}.bmp",
)
SIZES = ((48, 48), (120, 90), (200, 300), (640, 480))


def picture(name: str, number: int) -> Image.Image:
    rng = np.random.default_rng([len(name), *name.encode(), number])
    return draw(name, rng, "lamp").resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC)


def draw_folder(folder: Path) -> None:
    """Raises: FileExistsError if the folder is there already"""
    folder.mkdir(parents=True)
    for label, (directory, name) in enumerate(CLASSES.items()):
        (folder / directory).mkdir()
        for number in range(PER_CLASS):
            file = NAMES[number % len(NAMES)].format(100 * label + number)
            picture(name, number).save(folder / directory / file)
    (folder / LONELY).mkdir()
    picture(LONELY.replace("_", " "), 0).save(folder / LONELY / "only one.jpg")
    first = folder / "wavy_green_tree"
    (first / "cut off.jpg").write_bytes(next(first.glob("*.JPG")).read_bytes()[:-200])
    (first / "again.JPG").write_bytes(next(first.glob("*.JPG")).read_bytes())
    (first / "notes.txt").write_text("taken in the garden\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=PATH)
    draw_folder(Path(parser.parse_args().folder))
