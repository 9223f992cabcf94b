"""The outlines of a bird's parts, each in the frame of reference that `Pose` has for it."""

import numpy as np

from plumage.data.sources.birds.canvas import Points, Stencil, curve
from plumage.data.sources.birds.pose import HEAD_OUTLINE

Knots = list[tuple[float, float]]


def _band(start: Knots, end: Knots) -> Points:
    """The area between two open curves."""
    return np.vstack([curve(start, closed=False, steps=4), curve(end, closed=False, steps=4)[::-1]])


# In body(u, v): these may leave the body, as the silhouette cuts them.
BODY = Stencil({
    "belly": curve([(-0.05, -0.3), (-0.02, 0.3), (0.2, 0.42), (0.5, 0.42), (0.68, 0.4), (0.7, -0.3)]),
    "breast": curve([(0.58, -0.4), (0.55, 0.1), (0.6, 0.5), (0.8, 0.62), (0.95, 0.55), (1.05, 0.3), (1.1, -0.4)]),
    "collar": _band([(0.83, -0.3), (0.86, 0.3), (0.86, 0.7), (0.84, 1.2)],
                    [(0.95, -0.3), (0.975, 0.3), (0.97, 0.7), (0.93, 1.2)]),
})  # fmt: skip
_BAR = curve([(0.02, -0.1), (0.0, 0.12), (0.0, 0.3), (0.03, 0.46)], closed=False, steps=3)
BARS = [_BAR + np.array((u, 0.0)) for u in np.arange(0.26, 0.96, 0.125)]
_u, _v = np.meshgrid(np.arange(0.3, 0.95, 0.1), np.arange(0.02, 0.5, 0.13))
SPOTS = np.stack([(_u + 0.05 * (np.arange(len(_u)) % 2)[:, None]).ravel(), _v.ravel()], axis=1)

# In head(a, b).
HEAD = Stencil({
    "throat": curve([(0.96, -0.2), (0.62, -0.3), (0.22, -0.42), (0.02, -0.75), (0.0, -1.25), (0.45, -1.3),
        (0.9, -0.9)]),
    "crown": curve([(1.0, 0.16), (0.72, 0.4), (0.2, 0.52), (-0.35, 0.5), (-0.8, 0.2), (-1.1, 0.35), (-0.8, 1.1),
        (0.2, 1.3), (0.9, 0.9)]),
    "brow": curve([(0.9, 0.22), (0.4, 0.42), (-0.3, 0.40), (-0.8, 0.18), (-0.3, 0.68), (0.4, 0.70)]),
    "line": curve([(0.95, 0.06), (0.4, 0.0), (-0.3, -0.06), (-0.9, -0.05), (-0.4, 0.24), (0.4, 0.28)]),
    "mask": curve([(0.98, 0.1), (0.5, -0.3), (-0.1, -0.36), (-0.75, -0.1), (-0.5, 0.3), (0.3, 0.46), (0.8, 0.4)]),
    "eye": np.array([(0.34, 0.2)]),
})  # fmt: skip

# In skull(a, b): feathers of the crest are fans of spikes.
CRESTS = {
    "tuft": [(0.75, 0.6), (0.42, 1.2), (0.3, 1.02), (0.12, 1.42), (0.0, 1.1), (-0.22, 1.44), (-0.28, 1.08),
        (-0.6, 1.28), (-0.62, 0.7)],
    "peak": [(0.78, 0.55), (0.3, 1.12), (-0.2, 1.5), (-0.85, 1.95), (-0.62, 1.5), (-1.1, 1.62), (-0.82, 1.16),
        (-1.18, 1.2), (-0.85, 0.7), (-0.9, 0.3)],
    "plume": [(0.5, 0.8), (-0.3, 1.3), (-1.2, 1.4), (-2.1, 0.98), (-1.4, 1.08), (-1.9, 0.6), (-1.15, 0.8),
        (-0.85, 0.3)],
}  # fmt: skip
SKULL = Stencil({"outline": curve(HEAD_OUTLINE)} | {name: curve(knots, steps=3) for name, knots in CRESTS.items()})


def _bill(depth: float, droop: float, bulge: float) -> Stencil:
    """A bill `depth` deep at its root, whose tip falls by `droop` and whose ridge bulges; in head radii."""
    gape: Knots = [(0.0, 0.0), (0.5, -droop * 0.28), (1.0, -droop)]
    ridge: Knots = [(0.0, depth / 2), (0.5, depth * 0.3 + bulge * 0.25 - droop * 0.1), (1.0, -droop)]
    keel: Knots = [(0.0, -depth / 2), (0.5, -depth * 0.26 - droop * 0.3), (0.95, -droop * 0.9)]
    return _mandibles(ridge, gape, keel, depth * 0.16)


def _mandibles(ridge: Knots, gape: Knots, keel: Knots, nostril: float) -> Stencil:
    shine = curve(ridge, closed=False, steps=4)[:-2]
    halves = {"upper": _band(ridge, gape), "lower": _band(gape, keel)}
    return Stencil(halves | {"ridge": shine, "nostril": np.array([(0.2, nostril)])})


BILLS = {
    "needle": _bill(0.2, 0.02, 0.1), "short": _bill(0.34, 0.06, 0.25), "cone": _bill(0.66, 0.06, 0.3),
    "heavy cone": _bill(0.92, 0.1, 0.42), "dagger": _bill(0.46, 0.05, 0.22), "spear": _bill(0.5, 0.02, 0.1),
    "sickle": _bill(0.3, 0.62, 0.34),
    "hook": _mandibles(ridge=[(0.0, 0.45), (0.5, 0.42), (0.92, -0.02), (0.86, -0.62)],
                       gape=[(0.0, -0.05), (0.5, -0.1), (0.7, -0.2), (0.86, -0.62)],
                       keel=[(0.0, -0.5), (0.25, -0.54), (0.5, -0.42), (0.6, -0.16)], nostril=0.2),
}  # fmt: skip

# In wing(s, t).
_WING = np.array([
    (-0.06, 0.05), (0.02, 0.36), (0.2, 0.5), (0.5, 0.42), (0.8, 0.24), (1.06, 0.06), (0.9, -0.14), (0.66, -0.34),
    (0.4, -0.5), (0.16, -0.46), (0.0, -0.2),
])  # fmt: skip
_COVERTS = curve([
    (-0.05, 0.04), (0.03, 0.36), (0.2, 0.48), (0.42, 0.42), (0.5, 0.2), (0.5, -0.1), (0.42, -0.36), (0.2, -0.46),
    (0.02, -0.22),
])  # fmt: skip
FLIGHT_FEATHERS = 7
SCALLOP_ROWS = 4


def _flight_feather(i: int) -> Points:
    t, s = -0.42 + 0.105 * i, 0.54 + 0.07 * i
    lower: Knots = [(0.34, t + 0.02), (s * 0.8, t - 0.02 + 0.02 * i), (s + 0.04, t * 0.75 + 0.06)]
    return curve([*lower, (s * 0.85, t + 0.12), (0.36, t + 0.19)], steps=4)


def _scallops(row: int) -> Points:
    """The lower edges of one row of coverts, as one wavy line."""
    s = 0.09 + 0.095 * row
    t = np.linspace(-0.42, 0.42, 29) * (0.72, 0.9, 1.0, 0.95)[row]
    return np.stack([s - 0.25 * t**2 + 0.035 * np.abs(np.sin((t + 0.08 * (row % 2)) * np.pi / 0.15)), t], axis=1)


def _wing_bar(at: float) -> Points:
    front: Knots = [(at - 0.07, 0.43), (at - 0.01, 0.2), (at, -0.1), (at - 0.08, -0.46)]
    return _band(front, [(s + 0.07, t) for s, t in front])


WING = Stencil(
    {
        "outline": curve(_WING),
        "shadow": curve(_WING * (1.0, 1.06) + (0.0, -0.05)),
        "coverts": _COVERTS,
        "lower bar": _wing_bar(0.43),
        "upper bar": _wing_bar(0.23),
    }
    | {f"feather {i}": _flight_feather(i) for i in range(FLIGHT_FEATHERS)}
    | {f"scallops {row}": _scallops(row) for row in range(SCALLOP_ROWS)}
)

# In tail(s, t): upper side, end, lower side, between the two ends of the base.
_TAIL_ENDS: dict[str, Knots] = {
    "square": [(0.5, 0.85), (0.97, 1.05), (1.02, 0.3), (1.0, -0.4), (0.95, -1.0), (0.5, -0.8)],
    "notched": [(0.5, 0.85), (1.02, 1.1), (0.95, 0.5), (0.88, 0.0), (1.0, -1.1), (0.5, -0.8)],
    "forked": [(0.45, 0.9), (1.08, 1.6), (0.8, 0.6), (0.56, 0.0), (1.0, -1.7), (0.45, -0.9)],
    "fan": [(0.5, 1.3), (0.88, 1.6), (1.03, 0.5), (1.02, -0.5), (0.86, -1.7), (0.5, -1.3)],
    "pointed": [(0.4, 0.9), (0.7, 0.62), (1.05, 0.1), (1.03, -0.05), (0.72, -0.62), (0.4, -0.9)],
}
_TAILS: dict[str, Knots] = {name: [(0.0, 0.75), *knots, (0.0, -0.75)] for name, knots in _TAIL_ENDS.items()}
_TAILS["stub"] = _TAILS["square"]
_TAILS["long"] = [(s, t * (1 - 0.25 * s)) for s, t in _TAILS["square"]]
QUILLS = (-0.6, -0.22, 0.16, 0.54)


def _tail(knots: Knots) -> Stencil:
    end = knots[2:6]
    shapes = {"outline": curve(knots, steps=4), "tip": _band(end, [(s * 0.78, t * 0.97) for s, t in end])}
    return Stencil(shapes | {f"quill {i}": np.array([(0.1, t * 0.7), (0.93, t)]) for i, t in enumerate(QUILLS)})


TAILS = {name: _tail(knots) for name, knots in _TAILS.items()}
