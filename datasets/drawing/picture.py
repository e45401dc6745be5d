"""Procedural pictures whose class names say what is drawn: "striped red star", "red and teal wavy cloth".

A class name is a recipe of one of three families, all built from the same words:

    figure   <pattern> <color> <shape>                  dotted blue fish
    cloth    <color> and <color> <pattern> cloth        pink and green striped cloth
    sign     <color> <plate> sign with a <shape>        red triangle sign with a star

Everything that the name leaves open (place, size, angle, shade, stroke, background) comes from a generator,
so the same seed gives the same picture. Pictures are painted at three times their size and reduced, which
smooths the edges. A mirrored picture still shows its class.
"""

from functools import partial

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

VERSION = 2  # raise it when any picture changes: data sets drawn by another version are refused
SIZE = 48  # width and height in pixels
OVERSAMPLING = 3
SIDE = SIZE * OVERSAMPLING  # of the canvas, a float array (SIDE, SIDE, 3) of levels 0-255
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE

COLORS = {
    "red": (206, 52, 52),
    "orange": (238, 132, 40),
    "yellow": (246, 208, 66),
    "green": (82, 158, 70),
    "teal": (38, 150, 150),
    "blue": (52, 98, 190),
    "purple": (124, 74, 168),
    "pink": (240, 138, 176),
    "brown": (130, 86, 54),
    "gray": (136, 140, 146),
    "black": (44, 44, 52),
    "white": (248, 246, 240),
}
PATTERNS = ("plain", "striped", "dotted", "checkered", "wavy", "ringed", "netted", "rayed")
PLATES = ("circle", "square", "triangle", "diamond")
PAPER, PENCIL = (226, 217, 199), (70, 66, 64)

# Conditions under which a picture can be taken; the backbone is pre-trained on "clean" ones only.
# gamma: exponent on brightness; cast: factor per channel; haze: share of gray; blur: pixels; noise: levels.
CONDITIONS = {
    "clean": {},
    "lamp": {"gamma": 1.5, "cast": (1.0, 0.88, 0.66), "noise": 10},
    "candle": {"gamma": 1.5, "cast": (1.0, 0.8, 0.5), "noise": 14},
    "mist": {"gamma": 1.4, "cast": (1.0, 0.88, 0.7), "haze": 0.1, "blur": 0.7, "noise": 5},
    "sketch": {"gamma": 1.2, "cast": (1.0, 0.91, 0.78), "noise": 10},  # pencil and thin color on paper
}


# Shapes: lists of outlines (n, 2) in the square [-1, 1] x [-1, 1], x to the right and y down


def _curve(x, y):
    return np.stack([x, y], axis=-1)


def _ellipse(x, y, rx, ry):
    t = np.linspace(0, 2 * np.pi, 40)
    return _curve(x + rx * np.cos(t), y + ry * np.sin(t))


def _box(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _around(radius, n=120):
    """Outline that lies radius(t) away from the center in direction t, clockwise from the top."""
    t = np.arange(n) * 2 * np.pi / n
    return _curve(radius(t) * np.sin(t), -radius(t) * np.cos(t))


def _star(t):
    return np.where(np.round(t * 5 / np.pi) % 2 == 0, 1.0, 0.45)


def _moon():
    outer, inner = np.linspace(0.75, 5.53, 40), np.linspace(4.9, 1.38, 40)
    x, y = 0.6 + 0.69 * np.cos(inner), 0.69 * np.sin(inner)
    return np.concatenate([_curve(np.cos(outer), np.sin(outer)), _curve(x, y)])


def _heart():
    t = np.linspace(0, 2 * np.pi, 80)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return _curve(np.sin(t) ** 3, -(y + 2.5) / 15)


def _leaf():
    t = np.concatenate([np.linspace(-1, 1, 40), np.linspace(1, -1, 40)])
    side = np.repeat([0.55, -0.55], 40)
    return _curve(side * np.abs(np.cos(t * np.pi / 2)) ** 0.8, t)


SHAPES = {
    "circle": [_ellipse(0, 0, 0.92, 0.92)],
    "square": [_box(-0.82, -0.82, 0.82, 0.82)],
    "triangle": [np.array([(0, -0.95), (1, 0.8), (-1, 0.8)])],
    "diamond": [np.array([(0, -1), (0.78, 0), (0, 1), (-0.78, 0)])],
    "star": [_around(_star, n=10)],
    "cross": [_box(-0.34, -1, 0.34, 1), _box(-1, -0.34, 1, 0.34)],
    "heart": [_heart()],
    "moon": [_moon()],
    "flower": [_around(lambda t: 0.74 + 0.26 * np.cos(6 * t))],
    "leaf": [_leaf()],
    "fish": [_ellipse(-0.25, 0, 0.75, 0.52), np.array([(0.3, 0), (1, -0.62), (0.86, 0), (1, 0.62)])],
    "tree": [np.array([(0, -1), (0.8, 0.5), (-0.8, 0.5)]), _box(-0.2, 0.4, 0.2, 1)],
    "house": [_box(-0.75, -0.1, 0.75, 0.9), np.array([(0, -1), (1, 0), (-1, 0)])],
    "cloud": [
        _ellipse(-0.5, 0.15, 0.5, 0.42),
        _ellipse(0.05, -0.2, 0.5, 0.48),
        _ellipse(0.55, 0.2, 0.45, 0.38),
        _box(-0.5, 0, 0.55, 0.57),
    ],
}


def _mask(shape, center, scale, angle, grow=0.0):
    """Where a shape covers the canvas, bool (SIDE, SIDE).

    Args: center (x, y) and scale (half of the shape's width) in widths of the picture; angle in radians;
        grow, in widths of the picture, thickens the shape all around
    """
    image = Image.new("1", (SIDE, SIDE))
    pen = ImageDraw.Draw(image)
    c, s = np.cos(angle), np.sin(angle)
    for outline in SHAPES[shape]:
        moved = (outline @ np.array([[c, s], [-s, c]]) * scale + center) * SIDE
        points = [(x, y) for x, y in moved.tolist()]
        pen.polygon(points, fill=1)
        if grow:
            pen.line([*points, *points[:2]], fill=1, width=round(2 * grow * SIDE), joint="curve")
    return np.asarray(image)


def _pattern(name, center, scale, angle, rng):
    """Where a pattern shows its second color, bool (SIDE, SIDE); its angle varies, and so does its period."""
    angle = angle + rng.uniform(-0.5, 0.5) + rng.choice([0, np.pi / 2])
    x, y = (COLUMNS - center[0]) / scale, (ROWS - center[1]) / scale
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    period, phase = rng.uniform(0.42, 0.58), rng.uniform(0, 1)
    a, b = x / period + phase, y / period + phase
    match name:
        case "plain":
            return np.zeros(a.shape, bool)
        case "striped":
            return a % 1 < 0.5
        case "dotted":
            return ((a + 0.5 * (np.floor(b) % 2)) % 1 - 0.5) ** 2 + (b % 1 - 0.5) ** 2 < 0.1
        case "checkered":
            return (np.floor(1.25 * a) + np.floor(1.25 * b)) % 2 < 1
        case "wavy":
            return (b + 0.3 * np.sin(2 * np.pi * 0.8 * a)) % 1 < 0.42
        case "ringed":
            return np.hypot(x, y) / period % 1 < 0.45
        case "netted":
            return ((a + b) % 1 < 0.2) | ((a - b) % 1 < 0.2)
        case "rayed":
            return np.arctan2(y, x) * 10 / (2 * np.pi) % 1 < 0.5


# Painting: every painter changes the canvas in place


def _brightness(rgb):
    return np.dot(rgb, (0.3, 0.59, 0.11))


def _shade(color, rng):
    """A color word as levels (3,), each time a little lighter or darker and off in hue."""
    return np.clip(np.array(COLORS[color]) + rng.normal(0, 7) + rng.normal(0, 5, 3), 0, 255)


def _background(color, rng):
    """A soft gradient between two tints with a blurred spot, set off from a figure of the given color."""
    level = rng.uniform(95, 150) if _brightness(COLORS[color]) > 200 else rng.uniform(185, 235)
    one, two = level + rng.normal(0, 6, (2, 1)) + rng.normal(0, 12, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + (COLUMNS - 0.5) * np.cos(angle) + (ROWS - 0.5) * np.sin(angle), 0, 1)[..., None]
    x, y = rng.uniform(0, 1, 2)
    spot = np.exp(-((COLUMNS - x) ** 2 + (ROWS - y) ** 2) / rng.uniform(0.02, 0.1))[..., None]
    return one * ramp + two * (1 - ramp) + rng.uniform(-22, 22) * spot


def _darken_below(canvas, mask):
    """A shadow, a little below and to the right of a mask."""
    canvas[np.roll(mask, (SIDE // 32, SIDE // 48), axis=(0, 1))] *= 0.86


def _paint_figure(canvas, rng, sketch, pattern, color, shape):
    scale, angle = rng.uniform(0.31, 0.45), rng.normal(0, 0.16)
    center = 0.5 + rng.uniform(-1, 1, 2) * (0.47 - scale)
    body = _shade(color, rng)
    # The second tone of a pattern is the color lightened, or darkened where it is light already.
    second = body * 0.62 if _brightness(body) > 185 else body * 0.38 + 158
    outline = body * rng.uniform(0.45, 0.75)
    if sketch:
        second = body * 0.8 if _brightness(body) > 185 else body
        body, outline = 0.7 * np.array(PAPER) + 0.3 * body, PENCIL
    shown = _pattern(pattern, center, scale, angle, rng)[..., None]
    mask = _mask(shape, center, scale, angle)
    if not sketch:
        _darken_below(canvas, mask)
    canvas[_mask(shape, center, scale, angle, grow=rng.uniform(0.008, 0.027))] = outline
    canvas[mask] = np.where(shown, second, body)[mask]


def _paint_cloth(canvas, rng, sketch, colors, pattern):
    one, two = (_shade(color, rng) for color in rng.permutation(colors))
    center = rng.uniform(0.35, 0.65, 2)
    cloth = np.where(_pattern(pattern, center, 0.5, 0.0, rng)[..., None], one, two)
    (a, b), phase = rng.uniform(2, 6, 2), rng.uniform(0, 6)
    cloth *= 1 + 0.07 * np.sin(a * COLUMNS + b * ROWS + phase)[..., None]  # folds
    canvas[:] = 0.35 * canvas + 0.65 * cloth if sketch else cloth


def _paint_sign(canvas, rng, sketch, color, plate, symbol):
    scale, angle = rng.uniform(0.36, 0.44), rng.normal(0, 0.1)
    center = 0.5 + rng.uniform(-1, 1, 2) * (0.47 - scale)
    body = _shade(color, rng)
    ink = (52, 50, 56) if _brightness(body) > 175 else (250, 248, 242)
    if sketch:
        body, ink = 0.7 * np.array(PAPER) + 0.3 * body, PENCIL
    rim = _mask(plate, center, scale, angle, grow=0.03)
    if not sketch:
        _darken_below(canvas, rim)
    canvas[rim] = ink
    canvas[_mask(plate, center, 0.9 * scale, angle)] = body
    below = 0.26 * scale if plate == "triangle" else 0.0  # where a triangle is wide enough for a symbol
    inside = 0.58 * scale if plate in ("circle", "square") else 0.46 * scale
    canvas[_mask(symbol, center + (0, below), inside, angle)] = ink


def _painter(name):
    """The painter for a class name, and the color of what it paints."""
    match name.split():
        case [pattern, color, shape] if pattern in PATTERNS and color in COLORS and shape in SHAPES:
            return partial(_paint_figure, pattern=pattern, color=color, shape=shape), color
        case [one, "and", two, pattern, "cloth"] if one in COLORS and two in COLORS and pattern in PATTERNS:
            return partial(_paint_cloth, colors=(one, two), pattern=pattern), one
        case [color, plate, "sign", "with", "a", shape] if (
            color in COLORS and plate in PLATES and shape in SHAPES
        ):
            return partial(_paint_sign, color=color, plate=plate, symbol=shape), color
    raise ValueError(
        f"{name!r} cannot be drawn; write '<pattern> <color> <shape>', '<color> and <color> <pattern> cloth' "
        f"or '<color> <plate> sign with a <shape>'. Patterns: {', '.join(PATTERNS)}. "
        f"Colors: {', '.join(COLORS)}. Shapes: {', '.join(SHAPES)}. Plates: {', '.join(PLATES)}"
    )


def draw(name: str, rng: np.random.Generator, condition: str = "clean") -> Image.Image:
    """Draw one picture of a class, taken under one of CONDITIONS.

    Returns: RGB image of SIZE x SIZE pixels
    Raises:  ValueError for a name that is none of the three forms; KeyError for an unknown condition
    """
    paint, color = _painter(name)
    sketch = condition == "sketch"
    canvas = PAPER + rng.normal(0, 4, (SIDE, SIDE, 3)) if sketch else _background(color, rng)
    paint(canvas, rng, sketch)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).reduce(OVERSAMPLING)
    return shift(image, rng, **CONDITIONS[condition]) if CONDITIONS[condition] else image


def shift(image, rng, gamma=1.0, cast=(1.0, 1.0, 1.0), haze=0.0, blur=0.0, noise=0.0) -> Image.Image:
    """Change how a picture was taken, each time a little more or less; CONDITIONS names the arguments."""
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur * rng.uniform(0.7, 1.3)))
    x = (np.asarray(image) / 255) ** (gamma * rng.uniform(0.9, 1.1)) * cast * rng.uniform(0.94, 1.06)
    x = 255 * ((1 - haze) * x + 0.62 * haze) + rng.normal(0, noise, x.shape)
    return Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))
