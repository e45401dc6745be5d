"""Draw the classes of the embedded data sets into one picture.

    python scripts/demo/contact_sheet.py --output docs/demo_classes.png

A column per class of `demo`, base classes above, new ones below: as the backbone's pre-training shows such
pictures, then as `demo`, `demo_v2` and `demo_sketch` show them. The last rows are classes of `demo_garden`,
`demo_cloth` and `demo_signs` as drawn, without their conditions.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from clipfit.io.commands import PATH  # noqa: E402
from datasets.demo import CLOTH, DEMO, GARDEN, SIGNS, Demo, DemoSketch, DemoV2  # noqa: E402
from datasets.drawing.picture import draw  # noqa: E402

TILE, GAP, MARGIN, LABEL = 66, 6, 92, 42  # pixels
COLUMNS = len(DEMO) // 2
INK = (70, 70, 78)


def tile(name: str, condition: str, seed: int) -> Image.Image:
    picture = draw(name, np.random.default_rng(seed), condition)
    return picture.resize((TILE, TILE), Image.Resampling.LANCZOS)


def rows() -> list[tuple[str, list[tuple[str, str]], bool]]:
    """Rows from top to bottom: title, (class, condition) of every tile, whether class names stand above."""
    conditions = [
        ("pre-training\nlook", "clean"),
        ("demo", Demo.condition),
        ("demo_v2", DemoV2.condition),
        ("demo_sketch", DemoSketch.condition),
    ]
    halves = [DEMO[:COLUMNS], DEMO[COLUMNS:]]
    sheet = [
        (title, [(name, condition) for name in half], position == 0)
        for half in halves
        for position, (title, condition) in enumerate(conditions)
    ]
    for title, classes in (("demo_garden", GARDEN), ("demo_cloth", CLOTH), ("demo_signs", SIGNS)):
        sheet.append((title, [(name, "clean") for name in classes[:COLUMNS]], True))
    return sheet


def contact_sheet() -> Image.Image:
    sheet = rows()
    width = MARGIN + COLUMNS * (TILE + GAP)
    height = GAP + sum(TILE + GAP + LABEL * labeled for _, _, labeled in sheet)
    page = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=10)
    top = GAP
    for title, tiles, labeled in sheet:
        if labeled:
            for column, (name, _) in enumerate(tiles):
                at = (MARGIN + column * (TILE + GAP) + TILE / 2, top + LABEL - 3)
                pen.multiline_text(
                    at, _wrapped(name), fill=INK, font=font, anchor="md", align="center", spacing=1
                )
            top += LABEL
        pen.multiline_text((GAP, top + TILE / 2), title, fill=INK, font=font, anchor="lm")
        for column, (name, condition) in enumerate(tiles):
            page.paste(tile(name, condition, seed=column + 3), (MARGIN + column * (TILE + GAP), top))
        top += TILE + GAP
    return page


def _wrapped(name: str) -> str:
    """A class name in lines of at most 13 letters."""
    lines = [""]
    for word in name.split():
        joined = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], joined] if len(joined) <= 13 else [*lines, word]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=PATH, required=True)
    path = parser.parse_args().output
    contact_sheet().quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
