"""The pose of one bird: its shape and attitude as curves and frames of reference, in pixels of the photo.

A bird is modelled in its own space (body of length 1 along x from the tail's base, y up, looking right), then rotated,
mirrored and scaled into the photo. After that the painter asks for points on it:
`body(u, v)` (u from tail to head, v from belly to back), `head(a, b)`, `wing(s, t)` and `tail(s, t)`.
"""

from dataclasses import dataclass

import numpy as np

from plumage.data.sources.birds.canvas import Points, curve
from plumage.data.sources.birds.species import Species


@dataclass(frozen=True)
class Form:
    """The proportions of a shape, in body lengths; `tilt` in degrees from the horizontal."""

    tilt: float
    depth: float
    head: float
    head_at: tuple[float, float]
    tail_tilt: float = 0.0
    leg: float = 0.3
    wing: float = 0.86


FORMS = {
    "warbler": Form(tilt=22, depth=0.50, head=0.220, head_at=(0.99, 0.25)),
    "finch": Form(tilt=30, depth=0.56, head=0.245, head_at=(0.97, 0.24)),
    "thrush": Form(tilt=32, depth=0.50, head=0.205, head_at=(1.02, 0.22)),
    "wren": Form(tilt=8, depth=0.66, head=0.260, head_at=(0.96, 0.28), tail_tilt=58, wing=0.74),
    "dove": Form(tilt=14, depth=0.54, head=0.185, head_at=(1.03, 0.36), wing=0.96),
    "kingfisher": Form(tilt=46, depth=0.52, head=0.285, head_at=(1.02, 0.16), wing=0.82),
    "parrot": Form(tilt=58, depth=0.48, head=0.255, head_at=(1.03, 0.06), wing=0.98),
    "wader": Form(tilt=8, depth=0.48, head=0.185, head_at=(1.07, 0.46), leg=0.62, wing=0.94),
    "flycatcher": Form(tilt=56, depth=0.44, head=0.215, head_at=(1.03, 0.07), wing=0.92),
    "jay": Form(tilt=24, depth=0.47, head=0.225, head_at=(1.02, 0.26), wing=0.80),
    "quail": Form(tilt=16, depth=0.70, head=0.190, head_at=(0.97, 0.44), wing=0.76),
}
TAIL_LENGTH = {"stub": 0.24, "square": 0.44, "notched": 0.48, "fan": 0.52, "forked": 0.66, "pointed": 0.78,
               "long": 0.84}  # fmt: skip
LEG_LENGTH = {"short": 0.7, "medium": 1.0, "long": 1.25}
BILL_LENGTH = {"needle": 0.72, "short": 0.52, "cone": 0.62, "heavy cone": 0.78, "dagger": 1.0, "hook": 0.62,
               "spear": 1.9, "sickle": 1.9}  # fmt: skip
HEAD_OUTLINE = np.array([
    (1.0, -0.05), (0.86, 0.5), (0.38, 0.9), (-0.2, 1.0), (-0.75, 0.72), (-1.02, 0.1), (-0.86, -0.6), (-0.3, -0.98),
    (0.35, -0.92), (0.82, -0.56),
])  # fmt: skip


def _turn(degrees: float) -> Points:
    angle = np.radians(degrees)
    return np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])  # rows: the turned x and y axes


class Pose:
    """One individual's attitude, fitted into a photo of `size` pixels."""

    def __init__(self, species: Species, rng: np.random.Generator, size: int) -> None:
        form = FORMS[species.shape]
        tilt = form.tilt + rng.uniform(-9, 9)
        depth = form.depth * rng.uniform(0.93, 1.08)
        turn = _turn(tilt)

        def place(*points: tuple[float, float]) -> np.ndarray:
            return (np.array(points) - (0.5, 0)) @ turn

        # Head: it keeps level whatever the body does, nods, and sometimes looks back over the shoulder.
        self.head_size = form.head * rng.uniform(0.96, 1.04)
        backwards = rng.random() < 0.10
        nod = rng.uniform(-16, 18)
        self.head_centre = place(form.head_at)[0] + rng.uniform((-0.05, -0.04), (0.03, 0.04))
        self.head_axes = self.head_size * _turn(nod) * ((-1, 1) if backwards else (1, 1))
        self.yaw = rng.uniform(-0.25, 0.42)

        d = depth / 2
        nape = self.head_centre + self.head_size * np.array((-0.86, 0.42 if tilt < 40 else 0.2))
        throat = self.head_centre + self.head_size * np.array((0.55, -0.78))
        back = [(0.0, 0.06), (0.2, 0.42 * d + 0.03), (0.4, 0.84 * d), (0.6, 1.02 * d), (0.8, 0.98 * d)]
        front = [(0.0, -0.05), (0.2, -0.78 * d), (0.4, -1.04 * d), (0.6, -1.06 * d), (0.8, -0.84 * d)]
        self.upper = curve(np.vstack([place(*back), nape]), closed=False)
        self.lower = curve(np.vstack([place(*front), throat]), closed=False)

        # The wing hangs from the shoulder; now and then it is half open.
        lift = rng.uniform(-5, 7) if rng.random() < 0.88 else rng.uniform(10, 26)
        along = _turn(tilt + 176 - lift)
        self.wing_at = place((0.82, 0.46 * d))[0]
        self.wing_axes = along * np.array([(form.wing,), (-depth * 0.76,)])
        # The tail continues the line of the back.
        fan = rng.uniform(0.85, 1.25)
        along = _turn(tilt + 180 + 4 - form.tail_tilt - rng.uniform(-9, 12))
        self.tail_length = TAIL_LENGTH[species.tail]
        self.tail_at = place((0.06, 0.0))[0]
        self.tail_axes = along * np.array([(self.tail_length + 0.06,), (-0.13 * fan,)])

        leg = form.leg * LEG_LENGTH[species.legs] * rng.uniform(0.88, 1.08)
        hips = self.lower[[11, 14]] + np.array((0, 0.04))
        spread = rng.uniform(-0.05, 0.12)
        low = hips[:, 1].min() - leg
        self.hips = hips
        self.feet = np.array([(hips[0, 0] + 0.05 - spread, low), (hips[1, 0] + 0.08 + spread, low)])
        self.bill_length = BILL_LENGTH[species.bill]
        self._fit(rng, size)

    def _fit(self, rng: np.random.Generator, size: int) -> None:
        """Scale, mirror and place everything so that the bird fills most of the photo."""
        tips = self.skull(np.array([(1 + self.bill_length, 0), (-0.2, 1.5)]))  # of the bill, and of a crest
        tail, ground = self.tail(np.array([(0.9, 0)])), self.feet - (0, 0.1)
        extent = np.vstack([self.upper, self.lower, self.skull(HEAD_OUTLINE), tips, tail, ground])
        low, high = extent.min(axis=0), extent.max(axis=0)
        span = float((high - low).max())
        scale = size * rng.uniform(0.70, 0.93) / span
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        room = np.maximum(size - (high - low) * scale, 0)
        middle = size / 2 + rng.uniform(-0.42, 0.42, 2) * room
        flip = np.array([mirror, -1.0]) * scale
        centre = (low + high) / 2
        for name in ("upper", "lower", "hips", "feet", "head_centre", "wing_at", "tail_at"):
            setattr(self, name, (getattr(self, name) - centre) * flip + middle)
        for name in ("head_axes", "wing_axes", "tail_axes"):
            setattr(self, name, getattr(self, name) * flip)
        self.head_size *= scale
        self.scale = scale
        self.mirror = mirror
        self.outline = np.vstack([self.upper, self.lower[::-1]])
        self._edges = np.hstack([self.lower, self.upper - self.lower])

    def body(self, uv: Points) -> Points:
        """Points on the body: u 0 at the tail's base to 1 at the head, v 0 at the belly's edge to 1 at the back's."""
        last = len(self.upper) - 1
        at = np.clip(uv[:, 0], 0, 1) * last
        i = np.minimum(at.astype(int), last - 1)
        edges = self._edges[i]
        edges += (self._edges[i + 1] - edges) * (at - i)[:, None]
        return edges[:, :2] + edges[:, 2:] * uv[:, 1:]

    def head(self, ab: Points) -> Points:
        """Points on the ball of the head, in head radii: a forward, b up; turned by the yaw when inside the outline."""
        a, b = ab[:, 0], ab[:, 1]
        z = np.sqrt(np.clip(1 - a * a - b * b, 0, None))
        turned = np.stack([a * np.cos(self.yaw) - z * np.sin(self.yaw), b], axis=1)
        return self.head_centre + turned @ self.head_axes

    def skull(self, ab: Points) -> Points:
        """Points on the flat outline of the head, which the yaw doesn't affect; units as for `head`."""
        return self.head_centre + ab @ self.head_axes

    def bill(self, xy: Points) -> Points:
        """Points on the bill: x 0 at its root to 1 at its tip, y up in head radii; foreshortened by the yaw."""
        root = 0.82 - 0.15 * self.yaw
        length = 1.0 + self.bill_length * np.cos(self.yaw) - root
        return self.skull(xy * (length, 1) + (root, -0.08))

    def wing(self, st: Points) -> Points:
        """Points on the wing: s 0 at the shoulder to 1 at the tip, t across, -0.5 at the belly's side to 0.5."""
        return self.wing_at + st @ self.wing_axes

    def tail(self, st: Points) -> Points:
        """Points on the tail: s 0 at the base to 1 at the end, t across, -1 to 1."""
        return self.tail_at + st @ self.tail_axes
