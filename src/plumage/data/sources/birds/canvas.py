"""Flat shapes with smooth edges: a layer is drawn at twice the size, with its coverage as a fourth channel, then reduced."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
Pixels = NDArray[np.float32]  # of images, channels x size x size, 0 to 255; of masks and light, size x size, around 1
Colour = tuple[int, int, int]


@cache
def _basis(count: int, closed: bool, steps: int) -> Points:
    """The matrix from `count` control points to a Catmull-Rom curve through them, with `steps` points per segment."""
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    weights = 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])
    segments = count if closed else count - 1
    matrix = np.zeros((segments * steps, count))
    for i in range(segments):
        for j in range(4):
            at = (i + j - 1) % count if closed else min(max(i + j - 1, 0), count - 1)
            matrix[i * steps : (i + 1) * steps, at] += weights[:, j]
    return matrix if closed else np.vstack([matrix, np.eye(count)[-1]])


def curve(points: Points | list[tuple[float, float]], closed: bool = True, steps: int = 5) -> Points:
    """Return a smooth curve through the points, n x 2."""
    return _basis(len(points), closed, steps) @ np.asarray(points)


class Stencil:
    """Named curves in one frame of reference, placed into a photo all at once, which is fast."""

    def __init__(self, shapes: dict[str, Points]) -> None:
        self._names, self._points = list(shapes), np.vstack(list(shapes.values()))
        self._starts = np.cumsum([len(points) for points in shapes.values()])[:-1]

    def placed(self, frame: Callable[[Points], Points]) -> dict[str, Points]:
        """Return the curves where `frame` puts them."""
        return dict(zip(self._names, np.split(frame(self._points), self._starts), strict=True))


class Pen:
    """Draws on an image of `scale` times the photo's size. Points are in pixels of the photo, n x 2."""

    def __init__(self, image: Image.Image, scale: float = 1) -> None:
        self.image, self.scale = image, scale
        self._draw = ImageDraw.Draw(image)
        self._cover = (255,) if image.mode == "CMYK" else ()

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon((points * self.scale).ravel().tolist(), fill=(*colour, *self._cover))

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """Draw a line `width` pixels of the photo wide."""
        xy = (points * self.scale).ravel().tolist()
        self._draw.line(xy, fill=(*colour, *self._cover), width=max(1, round(width * self.scale)))

    def disc(self, centre: Points, radius: float, colour: Colour) -> None:
        """Draw a filled circle."""
        x, y = (centre * self.scale).tolist()
        r = max(radius * self.scale, 0.6)
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=(*colour, *self._cover))


class Layer(Pen):
    """A transparent layer, drawn at twice the photo's size for smooth edges."""

    def __init__(self, size: int) -> None:
        # Four plain channels: in "RGBA" Pillow would multiply and divide by the cover on each reduction.
        super().__init__(Image.new("CMYK", (size * 2, size * 2)), 2)

    def over(self, under: Pixels, light: Pixels) -> Pixels:
        """Return `under` with this layer over it; `light` (size x size) shades the layer only."""
        reduced = planar(self.image.reduce(2))
        clear = 1 - reduced[3] * np.float32(1 / 255)
        colours = reduced[:3]
        colours *= light
        colours += under * clear
        return colours


def planar(image: Image.Image) -> Pixels:
    """Return the pixels as channels x size x size, 0 to 255: numpy is several times faster on whole planes."""
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")


def soften(image: Pixels, weight: float) -> Pixels:
    """Blur with the kernel (weight, 1 - 2 weight, weight) along the last two axes; the border stays."""
    side, middle = np.float32(weight), np.float32(1 - 2 * weight)
    rows = image * middle
    rows[..., 1:-1, :] += (image[..., :-2, :] + image[..., 2:, :]) * side
    columns = rows * middle
    columns[..., 1:-1] += (rows[..., :-2] + rows[..., 2:]) * side
    for edge in (np.s_[..., 0, :], np.s_[..., -1, :], np.s_[..., 0], np.s_[..., -1]):
        columns[edge] = image[edge]
    return columns


def tone(colour: Colour, factor: float) -> Colour:
    """Return a darker (factor < 1) or lighter (> 1) colour."""
    r, g, b = colour
    if factor <= 1:
        return int(r * factor), int(g * factor), int(b * factor)
    more = factor - 1
    return int(r + (255 - r) * more), int(g + (255 - g) * more), int(b + (255 - b) * more)


def jitter(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """Return a colour nearby, by a normal deviation of `spread` in lightness and in each channel."""
    light, *each = (rng.standard_normal(4) * spread).tolist()
    r, g, b = (min(max(int(c + 0.6 * light + shift), 0), 255) for c, shift in zip(colour, each, strict=True))
    return r, g, b
