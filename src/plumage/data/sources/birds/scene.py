"""The bird's surroundings: the blurred background, its perch, and the leaves and twigs in front of it."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from plumage.data.sources.birds.canvas import Colour, Layer, Pen, Pixels, Points, curve, jitter, tone
from plumage.data.sources.birds.pose import Pose

# Colours from top to bottom, then colours of the blobs out of focus.
BACKGROUNDS: dict[str, tuple[tuple[Colour, Colour], tuple[Colour, ...]]] = {
    "sky": (((104, 156, 214), (196, 216, 232)), ((232, 238, 242), (160, 196, 230))),
    "overcast": (((196, 202, 206), (226, 226, 222)), ((180, 186, 190), (238, 238, 236))),
    "foliage": (((104, 142, 62), (58, 92, 40)), ((150, 182, 84), (40, 66, 30), (190, 206, 120), (84, 120, 52))),
    "forest": (((40, 54, 36), (26, 30, 24)), ((70, 84, 46), (18, 20, 18), (110, 116, 72), (64, 50, 36))),
    "meadow": (((176, 190, 122), (112, 140, 60)), ((212, 200, 110), (146, 166, 84), (236, 226, 180), (196, 120, 150))),
    "dry grass": (((206, 186, 140), (164, 136, 88)), ((226, 208, 160), (134, 110, 70), (186, 164, 100))),
    "autumn": (((170, 108, 50), (104, 66, 36)), ((220, 150, 50), (180, 70, 36), (226, 190, 90), (70, 50, 32))),
    "water": (((112, 140, 152), (72, 100, 116)), ((150, 176, 184), (60, 84, 98), (196, 208, 206))),
    "rock": (((150, 144, 138), (104, 100, 98)), ((178, 170, 160), (84, 80, 78), (128, 116, 100))),
    "blossom": (
        ((196, 168, 178), (130, 150, 110)),
        ((236, 196, 208), (244, 228, 228), (150, 176, 116), (206, 130, 150)),
    ),
    "dusk": (((214, 150, 110), (96, 84, 110)), ((240, 190, 130), (120, 96, 120), (70, 62, 84))),
    "snow": (((206, 216, 226), (234, 238, 242)), ((246, 248, 250), (176, 190, 204), (120, 124, 126))),
}
_KINDS = tuple(BACKGROUNDS)
_GRID = 56


def background(rng: np.random.Generator, size: int) -> Image.Image:
    """Draw the distant background: small, then enlarged, so that it is out of focus."""
    (top, bottom), spots = BACKGROUNDS[_KINDS[int(rng.integers(len(_KINDS)))]]
    upper, lower = np.array(jitter(rng, top, 22)), np.array(jitter(rng, bottom, 22))
    ramp = np.linspace(rng.uniform(-0.3, 0.3), rng.uniform(0.7, 1.3), _GRID)[:, None, None]
    base = np.clip(upper + (lower - upper) * ramp, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(base, (_GRID, _GRID, 3)).copy())
    draw = ImageDraw.Draw(image)
    count = int(rng.integers(4, 40))
    largest = rng.uniform(3, 11)
    palette = [jitter(rng, spot, 16) for spot in spots]
    places = rng.uniform(-4, _GRID + 4, (count, 2)).tolist()
    radii = (largest * rng.uniform(0.3, 1.0, count)).tolist()
    picks = rng.integers(len(palette), size=count).tolist()
    for (x, y), r, pick in zip(places, radii, picks, strict=True):
        draw.ellipse((x - r, y - r * 0.9, x + r, y + r * 0.9), fill=palette[pick])
    for _ in range(int(rng.integers(0, 5))):  # stems and trunks
        x, lean = rng.uniform(0, _GRID), rng.uniform(-14, 14)
        shade = tone(palette[0], rng.uniform(0.5, 1.2))
        draw.line((x, -2, x + lean, _GRID + 2), fill=shade, width=int(rng.integers(1, 4)))
    sharp = int(rng.integers(9, 27))
    image = image.resize((sharp, sharp), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.7))
    return image.resize((size, size), Image.Resampling.BILINEAR)


WOOD: tuple[Colour, ...] = ((112, 88, 66), (140, 124, 106), (84, 66, 54), (154, 132, 100), (104, 104, 92))
GREEN: tuple[Colour, ...] = ((92, 132, 54), (132, 158, 70), (60, 96, 44), (166, 150, 60), (120, 128, 70), (150, 90, 48))
GROUND: tuple[Colour, ...] = ((150, 126, 92), (126, 120, 108), (104, 122, 62), (176, 160, 128), (196, 198, 200))


def perch(rng: np.random.Generator, pose: Pose, size: int, pen: Pen) -> None:
    """Draw the perch: a branch, a post, a stone or the ground."""
    feet = pose.feet.mean(axis=0)
    kind = rng.random()
    unit = pose.scale
    if kind < 0.62:
        _branch(rng, feet, size, unit, pen)
    elif kind < 0.74:
        colour = jitter(rng, WOOD[int(rng.integers(len(WOOD)))], 14)
        half = unit * rng.uniform(0.22, 0.5)
        lean = rng.uniform(-0.1, 0.1) * size
        top = feet[1] - unit * 0.01
        post = np.array([(feet[0] - half, top), (feet[0] + half, top + unit * rng.uniform(-0.04, 0.04)),
                         (feet[0] + half + lean, size + 4), (feet[0] - half + lean, size + 4)])  # fmt: skip
        pen.fill(post, colour)
        for x in rng.uniform(-0.9, 0.9, 7) * half:
            shade = tone(colour, rng.uniform(0.6, 1.2))
            pen.line(np.array([(feet[0] + x, top + 1), (feet[0] + x + lean, size + 4)]), shade, size * 0.008)
    elif kind < 0.86:
        colour = jitter(rng, GROUND[int(rng.integers(len(GROUND)))], 14)
        wide = unit * rng.uniform(0.6, 1.2)
        knots = np.array([(-1.2, 1.3), (-1.0, 0.35), (-0.55, 0.05), (0.0, 0.0), (0.5, 0.03), (0.95, 0.3), (1.2, 1.3)])
        stone = feet + knots * (wide, max(size - feet[1], unit * 0.3)) + rng.normal(0, 0.02, (7, 2)) * unit
        pen.fill(curve(stone), colour)
        pen.fill(curve(stone[1:6] * (1, 0.97) + (0, size * 0.012)), tone(colour, 1.15))
        _specks(rng, stone[0, 0], stone[-1, 0], feet[1] + unit * 0.06, size, colour, pen)
    else:
        colour = jitter(rng, GROUND[int(rng.integers(len(GROUND)))], 14)
        x = np.linspace(-4, size + 4, 9)
        rise = feet[1] - unit * 0.03 + rng.normal(0, 0.025, 9) * unit
        skyline = curve(np.stack([x, rise], axis=1), closed=False)
        pen.fill(np.vstack([skyline, (size + 4, size + 4), (-4, size + 4)]), colour)
        _specks(rng, 0, size, feet[1], size, colour, pen)


_SPECK = np.array([(-1.0, 0.0), (1.0, 0.2)])


def _specks(
    rng: np.random.Generator, left: float, right: float, top: float, size: int, colour: Colour, pen: Pen
) -> None:
    count = 10
    at = np.stack([rng.uniform(left, right, count), rng.uniform(top, size, count)], axis=1)
    tones = rng.uniform(0.72, 1.22, count)
    long = rng.uniform(0.005, 0.03, count) * size
    for p, shade, reach in zip(at, tones, long, strict=True):
        pen.line(p + reach * _SPECK, tone(colour, shade), size * 0.012)


def _branch(rng: np.random.Generator, feet: Points, size: int, unit: float, pen: Pen) -> None:
    colour = jitter(rng, WOOD[int(rng.integers(len(WOOD)))], 16)
    slope = rng.uniform(-0.28, 0.28)
    thick = unit * rng.uniform(0.05, 0.13)
    x = np.array([-8.0, feet[0] - 0.3 * size, feet[0], feet[0] + 0.3 * size, size + 8])
    y = feet[1] + thick * 0.8 + (x - feet[0]) * slope + rng.normal(0, 0.02, 5) * size * (1, 1, 0, 1, 1)
    middle = curve(np.stack([x, y], axis=1), closed=False, steps=4)
    bumps = thick * (1 + rng.normal(0, 0.07, (len(middle), 1))) * (0, 1)
    pen.fill(np.vstack([middle - bumps, (middle + bumps)[::-1]]), colour)
    pen.fill(np.vstack([middle + bumps * 0.25, (middle + bumps)[::-1]]), tone(colour, 0.66))
    pen.fill(np.vstack([middle - bumps * 0.85, (middle - bumps * 0.4)[::-1]]), tone(colour, 1.18))
    for i in rng.integers(1, len(middle) - 1, 4):
        crack = np.array([middle[i] - bumps[i] * 0.5, middle[i] + bumps[i] * 0.6 + (thick * 0.3, 0)])
        pen.line(crack, tone(colour, 0.6), 0.01 * size)
    for _ in range(int(rng.integers(0, 4))):
        root = middle[int(rng.integers(len(middle)))]
        tip = root + size * rng.uniform((-0.25, -0.22), (0.25, 0.3))
        pen.line(np.stack([root, tip]), tone(colour, 0.9), thick * 0.4)
        for _ in range(int(rng.integers(0, 3))):
            leaf(rng, tip, size, pen)


_LEAF = curve([(0.0, 0.0), (0.35, 0.9), (0.75, 0.5), (1.05, 0.0), (0.7, -0.55), (0.3, -0.9)], steps=4)


def leaf(rng: np.random.Generator, at: Points, size: int, pen: Pen) -> None:
    """Draw one leaf that hangs at `at`."""
    colour = jitter(rng, GREEN[int(rng.integers(len(GREEN)))], 16)
    angle = rng.uniform(0, 2 * np.pi)
    long = rng.uniform(0.07, 0.17) * size
    axis = long * np.array((np.cos(angle), np.sin(angle)))
    side = np.array((-axis[1], axis[0])) * rng.uniform(0.2, 0.34)
    frame = np.stack([axis, side])
    edge = _LEAF @ frame + at
    pen.fill(edge, colour)
    pen.fill(edge[: len(edge) // 2 + 2], tone(colour, 1.14))
    pen.line(np.stack([at, at + axis]), tone(colour, 0.8), size * 0.006)


def in_front(rng: np.random.Generator, pose: Pose, size: int, image: Pixels) -> Pixels:
    """Sometimes draw leaves or grass in front of the bird, but not over its head."""
    kind = rng.random()
    if kind > 0.38:
        return image
    pen = Layer(size)
    colour = jitter(rng, GREEN[int(rng.integers(len(GREEN)))], 16)
    if kind < 0.22:
        for _ in range(int(rng.integers(1, 4))):
            at = rng.uniform(0, size, 2)
            if np.hypot(*(at - pose.head_centre)) > 0.32 * size:
                edge = np.array((at[0] + rng.uniform(-0.3, 0.3) * size, -2.0 if at[1] < size / 2 else size + 2.0))
                pen.line(np.stack([edge, at]), tone(colour, 0.6), 0.012 * size)
                leaf(rng, at, size, pen)
    else:
        for _ in range(int(rng.integers(2, 7))):
            x = rng.uniform(0, size)
            tip = np.array((x + rng.uniform(-0.15, 0.15) * size, pose.feet[0, 1] - rng.uniform(-0.05, 0.28) * size))
            blade = np.array([(x - 0.012 * size, size + 2), tip, (x + 0.012 * size, size + 2)])
            pen.fill(blade, tone(colour, rng.uniform(0.7, 1.2)))
    return pen.over(image, np.ones((), np.float32))
