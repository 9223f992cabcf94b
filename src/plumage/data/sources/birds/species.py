"""The table of invented bird species: one row of traits per species, all different.

Species k has the same row for any number of species and any seed of the photos, so a model trained on one sample can be
tested on another. The table is made to be hard to classify by colour alone:

- Each block of ten species shares three palettes, laid out differently over the body. So the amount of each colour says
  little about the species, and its position says much.
- In every block one pair are twins (`TWINS`), which differ in exactly one trait.
- All other pairs of species differ in at least `MIN_DIFFERENCE` traits.
"""

import itertools
from dataclasses import dataclass, fields, replace

import numpy as np

BLOCK = 10
TWINS = {3: 2}  # slot in the block -> slot of its twin
TWIN_MARKS = ("wing", "belly", "pattern", "crown", "crest", "throat", "breast")  # used in turn, the most visible first
_FLIPS = {"crest": ("peak", "none"), "pattern": ("bars", "plain")}
MIN_DIFFERENCE = 4
_TABLE_SEED = 20_22

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (28, 27, 30), "charcoal": (62, 62, 68), "slate": (92, 106, 124), "ash": (150, 152, 154),
    "white": (240, 240, 234), "cream": (238, 224, 188), "buff": (214, 178, 124), "ochre": (196, 142, 46),
    "rufous": (176, 84, 38), "chestnut": (124, 58, 38), "umber": (88, 66, 48), "scarlet": (204, 40, 34),
    "rose": (222, 120, 134), "orange": (234, 126, 30), "saffron": (240, 186, 40), "lemon": (236, 224, 90),
    "olive": (122, 122, 54), "moss": (78, 112, 58), "emerald": (34, 140, 90), "teal": (30, 122, 134),
    "azure": (72, 156, 214), "cobalt": (42, 82, 172), "violet": (112, 76, 156), "plum": (104, 46, 84),
}  # fmt: skip

PALETTES: tuple[tuple[str, str, str, str, str], ...] = (
    ("charcoal", "olive", "cream", "saffron", "rufous"),
    ("black", "slate", "white", "azure", "orange"),
    ("umber", "buff", "cream", "scarlet", "ash"),
    ("cobalt", "teal", "white", "rufous", "lemon"),
    ("chestnut", "ochre", "cream", "slate", "black"),
    ("black", "moss", "lemon", "emerald", "scarlet"),
    ("plum", "ash", "white", "rose", "charcoal"),
    ("umber", "rufous", "white", "azure", "saffron"),
    ("slate", "ash", "cream", "violet", "orange"),
    ("black", "emerald", "buff", "cobalt", "saffron"),
    ("charcoal", "chestnut", "white", "rose", "olive"),
    ("teal", "moss", "cream", "orange", "plum"),
)

# The bills, tails, legs and nouns that a shape may have.
SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "warbler": (("needle", "short"), ("square", "notched"), ("medium",), ("WARBLER", "VIREO", "PIPIT", "CHAT")),
    "finch": (("cone", "heavy cone"), ("notched", "square"), ("short", "medium"), ("FINCH", "BUNTING", "GROSBEAK", "SISKIN")),
    "thrush": (("short", "dagger"), ("square", "fan"), ("medium",), ("THRUSH", "STARLING", "SOLITAIRE", "ORIOLE")),
    "wren": (("needle", "sickle"), ("stub", "square"), ("medium",), ("WREN", "TIT", "BABBLER", "ANTPITTA")),
    "dove": (("short",), ("fan", "long"), ("short",), ("DOVE", "PIGEON", "CUCKOO", "TURACO")),
    "kingfisher": (("spear", "dagger"), ("stub", "square"), ("short",), ("KINGFISHER", "JACAMAR", "KOOKABURRA", "BARBET")),
    "parrot": (("hook",), ("long", "pointed"), ("short",), ("PARROT", "PARAKEET", "LORY", "CONURE")),
    "wader": (("spear", "sickle"), ("stub", "square"), ("long",), ("SANDPIPER", "PLOVER", "STILT", "CURLEW")),
    "flycatcher": (("short", "needle"), ("forked", "notched"), ("short",), ("FLYCATCHER", "KINGBIRD", "PHOEBE", "SWALLOW")),
    "jay": (("dagger", "short"), ("long", "fan"), ("medium",), ("JAY", "MAGPIE", "SHRIKE", "TREEPIE")),
    "quail": (("short", "cone"), ("stub",), ("medium",), ("QUAIL", "PARTRIDGE", "CRAKE", "RAIL")),
}  # fmt: skip

CRESTS = ("none", "none", "none", "tuft", "peak", "plume")
EYE_MARKS = ("none", "ring", "brow", "line", "mask")
WING_BARS = ("none", "single", "double")
PATTERNS = ("plain", "plain", "streaks", "spots", "bars")
BILL_COLOURS = ("black", "charcoal", "saffron", "orange", "ash", "scarlet")
LEG_COLOURS = ("charcoal", "umber", "orange", "rose", "ash")

_PLACES = ("NORTHERN", "SOUTHERN", "HILL", "MARSH", "ISLAND", "RIVER", "CLOUD", "DUSK", "VALLEY", "LESSER", "GREATER",
           "HERMIT")  # fmt: skip
_WORDS = {name: name.upper() for name in COLOURS}
_WORDS |= {"black": "SOOTY", "charcoal": "CINDER", "ash": "ASHEN", "white": "IVORY", "buff": "FAWN", "orange": "AMBER"}


@dataclass(frozen=True)
class Species:
    """One row of the table.

    Colours are names in `COLOURS`; `mark` is the colour of the eye mark, wing bars, collar and tail tip.
    """

    name: str
    shape: str
    bill: str
    bill_colour: str
    tail: str
    crest: str
    legs: str
    leg_colour: str
    crown: str
    face: str
    throat: str
    back: str
    wing: str
    breast: str
    belly: str
    tail_colour: str
    mark: str
    eye_mark: str
    wing_bar: str
    pattern: str
    collar: str
    tail_tip: str

    @property
    def traits(self) -> tuple[str, ...]:
        """All but the name."""
        return tuple(getattr(self, field.name) for field in fields(self)[1:])


_table: list[Species] = []  # grows on demand by blocks, always in the same way
_names: set[str] = set()


def species_table(count: int) -> tuple[Species, ...]:
    """Return species 0 to count - 1; there are names for several thousand."""
    while len(_table) < count:
        _add_block()
    return tuple(_table[:count])


def _add_block() -> None:
    block = len(_table) // BLOCK
    rows = np.array([row.traits for row in _table]).reshape(len(_table), len(fields(Species)) - 1)
    for slot in range(BLOCK):
        rng = np.random.default_rng((_TABLE_SEED, block * BLOCK + slot))
        for attempt in itertools.count():
            if slot in TWINS:
                mark = TWIN_MARKS[(block + attempt) % len(TWIN_MARKS)]
                species = _twin(rng, _table[block * BLOCK + TWINS[slot]], mark)
                others = np.delete(rows, block * BLOCK + TWINS[slot], axis=0)
            else:
                species = _draw(rng, PALETTES[(3 * block + slot % 3 + block // 4) % len(PALETTES)])
                others = rows
            if not len(others) or (others != np.array(species.traits)).sum(axis=1).min() >= MIN_DIFFERENCE:
                break
        name = _name(rng, species, _names)
        _names.add(name)
        _table.append(replace(species, name=name))
        rows = np.vstack([rows, np.array(species.traits)])


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _contrast(a: str, b: str) -> float:
    return float(np.abs(np.subtract(COLOURS[a], COLOURS[b])).sum())


def _draw(rng: np.random.Generator, palette: tuple[str, ...]) -> Species:
    """Draw a row whose neighbouring body regions contrast."""
    shape = _pick(rng, tuple(SHAPES))
    bills, tails, legs, _ = SHAPES[shape]
    while True:
        crown, face, throat, back, wing, breast, belly, tail = (_pick(rng, palette) for _ in range(8))
        mark = _pick(rng, ("white", "black", *palette))
        borders = [(back, wing), (breast, belly), (wing, mark), (crown, face), (face, mark), (back, belly),
                   (wing, breast)]  # fmt: skip
        if len({crown, face, throat, back, wing, breast, belly}) < 4:
            continue
        if sum(_contrast(*colours) > 110 for colours in borders) >= 6:
            break
    return Species(
        name="", shape=shape, bill=_pick(rng, bills), bill_colour=_pick(rng, BILL_COLOURS),
        tail=_pick(rng, tails), crest=_pick(rng, CRESTS), legs=_pick(rng, legs),
        leg_colour=_pick(rng, LEG_COLOURS), crown=crown, face=face, throat=throat, back=back, wing=wing, breast=breast,
        belly=belly, tail_colour=tail, mark=mark, eye_mark=_pick(rng, EYE_MARKS), wing_bar=_pick(rng, WING_BARS),
        pattern=_pick(rng, PATTERNS), collar=_pick(rng, ("no", "no", "yes")), tail_tip=_pick(rng, ("no", "no", "yes")),
    )  # fmt: skip


def _twin(rng: np.random.Generator, other: Species, mark: str) -> Species:
    """Return `other` with one trait changed: switched on or off, or to a very different colour."""
    if mark in _FLIPS:
        on, off = _FLIPS[mark]
        return replace(other, **{mark: on if getattr(other, mark) == off else off})
    far = tuple(name for name in COLOURS if _contrast(name, getattr(other, mark)) > 260)
    return replace(other, **{mark: _pick(rng, far)})


def _name(rng: np.random.Generator, species: Species, taken: set[str]) -> str:
    """Name a species after its looks, such as RUFOUS CRESTED WARBLER; add a place if the name is taken."""
    regions = (("crown", "CAPPED"), ("throat", "THROATED"), ("breast", "BREASTED"), ("back", "BACKED"),
               ("belly", "BELLIED"), ("wing", "WINGED"))  # fmt: skip
    looks = [f"{_WORDS[getattr(species, region)]} {look}" for region, look in regions]
    if species.crest != "none":
        looks.append(f"{_WORDS[species.crown]} CRESTED")
    if species.collar == "yes":
        looks.append(f"{_WORDS[species.mark]} COLLARED")
    if species.eye_mark == "mask":
        looks.append(f"{_WORDS[species.mark]} MASKED")
    *_, nouns = SHAPES[species.shape]
    for place in ("", *rng.permutation(_PLACES)):
        for _ in range(20):
            name = f"{place} {_pick(rng, tuple(looks))} {_pick(rng, nouns)}".strip()
            if name not in taken:
                return name
    raise AssertionError("more species than names")
