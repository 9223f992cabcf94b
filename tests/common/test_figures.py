"""People read no digit that the number of photos doesn't support, and 100% only where nothing is missing."""

import pytest

from plumage.common.figures import probability, score, share


@pytest.mark.parametrize(
    ("value", "photos", "shown"),
    [
        (23 / 24, 24, "96%"), (1.0, 24, "100%"), (0.99895, 24, ">99%"), (0.0, 24, "0%"), (0.001, 24, "<1%"),
        (149 / 150, 150, "99.3%"), (1999 / 2000, 2000, ">99.9%"), (0.99999, 2000, ">99.9%"), (1.0, 2000, "100.0%"),
    ],
)  # fmt: skip
def test_a_share_has_the_digits_that_its_photos_support(value, photos, shown):
    assert share(value, photos) == shown


def test_a_share_is_shown_as_all_or_none_only_if_it_is():
    for photos in (1, 24, 99, 100, 999, 5000):
        for wrong in {0, 1, photos // 2, photos}:
            text = share((photos - wrong) / photos, photos)
            assert text.startswith("100") == (wrong == 0) and (text in ("0%", "0.0%")) == (wrong == photos)


def test_a_probability_is_100_percent_only_if_it_is_1():
    assert [probability(value) for value in (1.0, 0.99999, 0.9994, 0.5, 0.0001, 0.0)] == [
        "100.0%", ">99.9%", "99.9%", "50.0%", "<0.1%", "0.0%",
    ]  # fmt: skip


def test_other_metrics_have_a_digit_less_with_few_photos():
    assert (score(0.12345, 24), score(0.12345, 2400)) == ("0.12", "0.123")
