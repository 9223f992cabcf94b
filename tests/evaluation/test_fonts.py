"""Class names in any script are drawn with the fonts of the machine; what none has is said once."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from plumage.evaluation import fonts, plots
from plumage.evaluation.confusion import confusion_order
from plumage.evaluation.confusion_plot import plot_confusion

OTHER_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "STIXNonUni.ttf"
NOWHERE = "\U000f0000"  # a character of private use, which no font has
BIRDS = ["麻雀", "カワセミ", "참새"]


@pytest.fixture
def machine(monkeypatch):
    """A machine with one more font, and a character that this font has and DejaVu Sans has not."""
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(OTHER_FONT), "/gone.ttf"])
    fonts._fallback.cache_clear()
    known = FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap()
    yield next(chr(code) for code in FT2Font(OTHER_FONT).get_charmap() if code not in known)
    fonts._fallback.cache_clear()


def draw(path: Path, names: list[str]) -> bytes:
    matrix = np.diag([9] * len(names))
    plot_confusion(path, matrix, names, confusion_order(matrix))
    return path.read_bytes()


def test_latin_greek_and_cyrillic_need_no_other_font(monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: pytest.fail("looked for fonts"))
    assert fonts.families(["Bécasse", "αηδόνι", "соловей", "$x$\u200d"]) == ["DejaVu Sans"]


def test_a_font_of_the_machine_draws_what_dejavu_lacks(machine, tmp_path):
    assert fonts.families([f"a{machine}"]) == ["DejaVu Sans", "STIXNonUnicode"]
    assert fonts.missing_characters([f"a{machine}{NOWHERE}"]) == NOWHERE
    assert draw(tmp_path / "one.png", [machine, "b"]) != draw(tmp_path / "two.png", [NOWHERE, "b"])


def test_missing_characters_cause_no_warnings(machine, tmp_path, recwarn, caplog):
    draw(tmp_path / "plot.png", [f"{NOWHERE}{machine}", *BIRDS])
    assert not recwarn.list
    assert not caplog.records


@pytest.mark.skipif(
    bool(fonts.missing_characters(BIRDS)), reason="no font of this machine has Chinese, Japanese and Korean"
)
def test_chinese_japanese_and_korean_are_drawn_without_boxes(tmp_path, recwarn):
    assert draw(tmp_path / "one.png", ["麻雀", "b"]) != draw(tmp_path / "two.png", ["喜鹊", "b"])
    assert not recwarn.list


def test_wide_characters_count_as_two_when_a_name_is_shortened():
    assert plots.shorten("麻雀" * 10) == "麻雀" * 10
    assert plots.shorten("麻雀" * 11) == "麻雀" * 9 + "麻…"
    assert plots.shorten("x" * 41) == "x" * 39 + "…"
