"""Fonts of this machine for the characters that DejaVu Sans, which comes with Matplotlib, doesn't have: 鳥, 새, 🦉."""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unicodedata import category

from matplotlib import font_manager
from matplotlib.ft2font import FaceFlags, FT2Font

FAMILY = "DejaVu Sans"
BOXES = "LastResort"  # comes with Matplotlib, and has a box for every character


def families(text: Iterable[str]) -> list[str]:
    """The font families that draw `text`, in order of preference: FAMILY, then as few others as possible."""
    return [FAMILY, *_fallback(_visible(text))[0]]


def missing_characters(text: Iterable[str]) -> str:
    """The characters of `text` that no font of this machine has."""
    return _fallback(_visible(text))[1]


@contextmanager
def drawing_quietly() -> Iterator[None]:
    """Silence Matplotlib's warnings about missing characters and fonts without a bold face."""
    logger = logging.getLogger("matplotlib.font_manager")
    before = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)


def _visible(text: Iterable[str]) -> frozenset[str]:
    """The characters that need a glyph: not control and format characters, nor those that select a variant of an emoji."""
    characters = frozenset("".join(text))
    return frozenset(
        sign for sign in characters if category(sign) not in ("Cc", "Cf", "Zs") and not "\ufe00" <= sign <= "\ufe0f"
    )


@cache
def _fallback(characters: frozenset[str]) -> tuple[list[str], str]:
    missing = characters - _characters(font_manager.findfont(FAMILY))
    chosen: list[str] = []
    fonts = sorted(font_manager.findSystemFonts()) if missing else []
    while fonts and missing:
        best = max(fonts, key=lambda font: (len(missing & _characters(font)), "regular" in font.lower()))
        if not missing & _characters(best):
            break
        font_manager.fontManager.addfont(best)  # Matplotlib's own list may be older than the font
        chosen.append(FT2Font(best).family_name)
        missing -= _characters(best)
    return chosen, "".join(sorted(missing))


@cache
def _characters(font: str) -> frozenset[str]:
    """The characters of a font file; none if Matplotlib can't draw them, as those of colour fonts."""
    try:
        face = FT2Font(font)
    except (RuntimeError, OSError):
        return frozenset()
    usable = FaceFlags.SCALABLE in face.face_flags and BOXES not in Path(font).name
    return frozenset(map(chr, face.get_charmap())) if usable else frozenset()
