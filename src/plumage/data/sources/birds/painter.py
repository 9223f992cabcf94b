"""Draws one bird into its scene and takes the photo: plumage, light, lens and sensor."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from plumage.data.sources.birds import parts
from plumage.data.sources.birds.canvas import Colour, Layer, Pen, Pixels, Points, planar, soften, tone
from plumage.data.sources.birds.pose import Pose
from plumage.data.sources.birds.scene import background, in_front, perch
from plumage.data.sources.birds.species import COLOURS, Species

_INKS = ("crown", "face", "throat", "back", "wing", "breast", "belly", "tail_colour", "mark", "bill_colour",
         "leg_colour")  # fmt: skip
_LIGHT_GRID = 32


class Bird:
    """One individual: its pose, its own shades of the species' colours, and its parts in the photo's coordinates."""

    def __init__(self, species: Species, rng: np.random.Generator, size: int) -> None:
        self.species, self.size = species, size
        self.pose = pose = Pose(species, rng, size)
        base = np.array([COLOURS[getattr(species, trait)] for trait in _INKS])
        shades = base * rng.normal(1, 0.08, (len(_INKS), 1)) + rng.normal(0, 7, base.shape)
        colours = map(tuple, np.clip(shades, 8, 248).astype(int).tolist())
        self.inks: dict[str, Colour] = dict(zip(_INKS, colours, strict=True))
        self.body = parts.BODY.placed(pose.body)
        self.face = parts.HEAD.placed(pose.head)
        self.skull = parts.SKULL.placed(pose.skull)
        self.bill = parts.BILLS[species.bill].placed(pose.bill)
        self.wing = parts.WING.placed(pose.wing)
        self.tail = parts.TAILS[species.tail].placed(pose.tail)
        self.fine = max(0.35, 0.007 * pose.scale)  # width of the finest lines, pixels


def paint(species: Species, key: tuple[int, ...], size: int) -> Image.Image:
    """Return the photo of the individual that `key` names: size x size RGB, a function of the arguments alone."""
    rng = np.random.default_rng(np.random.SeedSequence(key))
    bird = Bird(species, rng, size)
    scene = background(rng, size)
    perch(rng, bird.pose, size, Pen(scene))
    image = soften(planar(scene), 0.25)

    light = _light(bird, rng) * _feathers(size, rng)
    cover = _cover(bird)
    plumage = _plumage(bird, rng)
    plumage *= light * cover
    plumage += image * (1 - cover)
    details = Layer(size)
    _legs(bird, details)
    _tail_wing_bill_eye(bird, details)
    image = in_front(rng, bird.pose, size, details.over(plumage, light))
    return _photograph(image, rng)


_TOES = np.array([(0.10, 0.02), (0.0, 0.0), (0.07, 0.05), (0.0, 0.0), (-0.06, 0.03)])


def _legs(bird: Bird, layer: Layer) -> None:
    pose, colour = bird.pose, bird.inks["leg_colour"]
    thick = 0.032 * pose.scale
    for hip, foot, shade in zip(pose.hips, pose.feet, (tone(colour, 0.72), colour), strict=True):
        knee = hip * 0.45 + foot * 0.55 + (-0.04 * pose.mirror * pose.scale, 0)
        layer.line(np.stack([hip, knee]), shade, thick * 1.3)
        layer.line(np.stack([knee, foot]), shade, thick)
        layer.line(foot + _TOES * (pose.mirror * pose.scale, pose.scale), shade, thick * 0.75)


def _cover(bird: Bird) -> Pixels:
    """The share of each pixel that body and head cover, size x size; tail, wing and bill are drawn on another layer."""
    mask = Image.new("L", (bird.size * 2, bird.size * 2))
    draw = ImageDraw.Draw(mask)
    shapes = [bird.pose.outline, bird.skull["outline"]]
    if bird.species.crest != "none":
        shapes.append(bird.skull[bird.species.crest])
    for points in shapes:
        draw.polygon((points * 2).ravel().tolist(), fill=255)
    return np.asarray(mask.reduce(2), np.float32) * np.float32(1 / 255)


def _plumage(bird: Bird, rng: np.random.Generator) -> Pixels:
    """The soft-edged plumage, drawn over the whole photo and clipped to the silhouette later."""
    species, inks = bird.species, bird.inks
    image = Image.new("RGB", (bird.size, bird.size), inks["back"])
    draw = ImageDraw.Draw(image)

    def fill(points: Points, colour: Colour) -> None:
        draw.polygon(points.ravel().tolist(), fill=colour)

    fill(bird.body["belly"], inks["belly"])
    fill(bird.body["breast"], inks["breast"])
    # Drawn for every species, so that twins have the same pose.
    spots = parts.SPOTS + rng.normal(0, 0.013, parts.SPOTS.shape)
    if species.pattern != "plain":
        _pattern(bird, spots, draw)
    fill(bird.skull["outline"], inks["face"])
    fill(bird.face["throat"], inks["throat"])
    if species.collar == "yes":
        fill(bird.body["collar"], inks["mark"])
    fill(bird.face["crown"], inks["crown"])
    if species.crest != "none":
        fill(bird.skull[species.crest], inks["crown"])
    if species.eye_mark in ("brow", "line", "mask"):
        fill(bird.face[species.eye_mark], inks["mark"])
    worn = rng.uniform((0.1, 0.05, 0.6), (0.9, 0.8, 1.5), (6, 3))  # worn or odd feathers
    r = 0.02 * bird.pose.scale
    places = bird.pose.body(worn[:, :2]).tolist()
    for (x, y), (u, _, shade) in zip(places, worn[: rng.integers(7)].tolist(), strict=False):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tone(inks["breast" if u > 0.58 else "belly"], shade))
    fill(bird.wing["shadow"], tone(inks["belly"], 0.55))
    return soften(planar(image), 0.25)


def _pattern(bird: Bird, spots: Points, draw: ImageDraw.ImageDraw) -> None:
    """Streaks, spots or bars over breast and flank."""
    breast = bird.inks["breast"]
    colour = tone(breast, 0.28) if sum(breast) > 240 else tone(breast, 1.65)
    thick = 0.042 * bird.pose.scale
    if bird.species.pattern == "bars":
        for bar in parts.BARS:
            draw.line(bird.pose.body(bar).ravel().tolist(), fill=colour, width=max(1, round(thick * 1.25)))
        return
    places = bird.pose.body(np.vstack([spots, spots - (0.055, 0.02)])).tolist()
    r = thick * 0.62
    for (x, y), (x1, y1) in zip(places[: len(spots)], places[len(spots) :], strict=True):
        if bird.species.pattern == "streaks":
            draw.line((x, y, x1, y1), fill=colour, width=max(1, round(thick * 0.7)))
        else:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _tail_wing_bill_eye(bird: Bird, layer: Layer) -> None:
    """The parts with sharp edges."""
    species, inks, fine = bird.species, bird.inks, bird.fine
    layer.fill(bird.tail["outline"], inks["tail_colour"])
    if species.tail_tip == "yes":
        layer.fill(bird.tail["tip"], inks["mark"])
    for i in range(len(parts.QUILLS)):
        layer.line(bird.tail[f"quill {i}"], tone(inks["tail_colour"], 0.7), fine)

    wing, pale = inks["wing"], tone(inks["wing"], 1.22)
    layer.fill(bird.wing["outline"], tone(wing, 0.8))
    for i in range(parts.FLIGHT_FEATHERS):  # each overlaps the one below
        feather = bird.wing[f"feather {i}"]
        layer.fill(feather, tone(wing, 0.7 + 0.05 * i))
        layer.line(feather[2:13], pale, fine)
    layer.fill(bird.wing["coverts"], wing)
    if species.wing_bar != "none":
        layer.fill(bird.wing["lower bar"], inks["mark"])
    if species.wing_bar == "double":
        layer.fill(bird.wing["upper bar"], inks["mark"])
    for row in range(parts.SCALLOP_ROWS):
        layer.line(bird.wing[f"scallops {row}"], tone(wing, 0.74), fine)

    horn = inks["bill_colour"]
    layer.fill(bird.bill["lower"], tone(horn, 0.68))
    layer.fill(bird.bill["upper"], horn)
    layer.line(bird.bill["ridge"], tone(horn, 1.3), fine)
    layer.disc(bird.bill["nostril"][0], 0.05 * bird.pose.head_size, tone(horn, 0.4))

    eye, radius = bird.face["eye"][0], 0.175 * bird.pose.head_size
    if species.eye_mark == "ring":
        layer.disc(eye, radius * 1.8, inks["mark"])
    else:
        layer.disc(eye, radius * 1.2, tone(inks["face"], 0.6))
    layer.disc(eye, radius, (22, 16, 14))
    layer.disc(eye + np.array((-0.3, -0.38)) * radius, radius * 0.3, (250, 250, 248))


# --- light, lens, sensor --------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _texture(size: int) -> tuple[Pixels, Pixels]:
    """A sheet of feather strokes and one of sensor noise, around 0, twice the size: photos take windows of them."""
    rng = np.random.default_rng(size)
    strokes = rng.normal(0, 1, (2 * size, 2 * size)).astype(np.float32)
    for _ in range(3):  # smooth along the diagonal: the strokes run down the flank
        strokes = (strokes + np.roll(strokes, (1, 2), (0, 1)) + np.roll(strokes, (-1, -2), (0, 1))) / np.float32(3)
    strokes = soften(strokes, 0.2)
    return strokes / strokes.std(), rng.normal(0, 1, (3, 2 * size, 2 * size)).astype(np.float32)


def _feathers(size: int, rng: np.random.Generator) -> Pixels:
    y, x = rng.integers(0, size, 2).tolist()
    strokes = _texture(size)[0][y : y + size, x : x + size]
    if rng.random() < 0.5:
        strokes = strokes[:, ::-1]
    return 1 + np.float32(rng.uniform(0.03, 0.08)) * strokes


def _light(bird: Bird, rng: np.random.Generator) -> Pixels:
    """The shading of rounded parts, size x size: a coarse relief of the bird, lit from above and one side."""
    relief = Image.new("L", (_LIGHT_GRID, _LIGHT_GRID))
    draw = ImageDraw.Draw(relief)
    outlines = (bird.tail["outline"], bird.pose.outline, bird.skull["outline"], bird.wing["outline"])
    for points, level in zip(outlines, (70, 150, 190, 205), strict=True):
        draw.polygon((points * (_LIGHT_GRID / bird.size)).ravel().tolist(), fill=level)
    height = np.asarray(relief.filter(ImageFilter.GaussianBlur(1.8)), np.float32) * np.float32(1 / 200)
    shade = np.full_like(height, 1.04)
    slope = rng.uniform(1.2, 2.3)
    shade[1:-1] += np.float32(slope) * (height[2:] - height[:-2])
    shade[:, 1:-1] += np.float32(slope * rng.uniform(-0.9, 0.9)) * (height[:, 2:] - height[:, :-2])
    shade -= 0.3 * np.maximum(0.7 - height, 0)
    small = Image.fromarray((np.clip(shade, 0.4, 1.22) * 180).astype(np.uint8))
    enlarged = small.resize((bird.size, bird.size), Image.Resampling.BILINEAR)
    return np.asarray(enlarged, np.float32) * np.float32(1 / 180)


def _photograph(image: Pixels, rng: np.random.Generator) -> Image.Image:
    """Focus, a light that falls off, noise, then exposure, colour temperature, saturation, contrast and haze."""
    size = image.shape[-1]
    image = soften(image, rng.uniform(0.08, 0.27))
    across, down, noise = rng.uniform(-0.18, 0.18), rng.uniform(-0.18, 0.18), rng.uniform(0.5, 4.5)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    image *= np.float32(1) + np.float32(down) * ramp[:, None] + np.float32(across) * ramp
    y, x = rng.integers(0, size, 2).tolist()
    image += np.float32(noise) * _texture(size)[1][:, y : y + size, x : x + size]
    pixels = np.clip(image, 0, 255, out=image).astype(np.uint8)
    photo = Image.merge("RGB", [Image.fromarray(plane) for plane in pixels])

    warmth, tint, exposure = rng.normal(0, 0.13), rng.normal(0, 0.04), np.exp(rng.normal(-0.03, 0.22))
    saturation, contrast, haze = rng.uniform(0.7, 1.2), rng.uniform(0.78, 1.12), rng.uniform(-8, 20)
    gain = exposure * np.array((1 + warmth, 1 + tint, 1 - warmth))
    mix = saturation * np.eye(3) + (1 - saturation) / 3
    matrix = np.hstack([contrast * gain[:, None] * mix, np.full((3, 1), 128 * (1 - contrast) + haze)])
    return photo.convert("RGB", tuple(matrix.ravel().tolist()))
