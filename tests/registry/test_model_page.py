"""A registered model's page says its promotions in words, with links, and stays as short as every store demands."""

from plumage.registry.model_card import LONGEST_DESCRIPTION
from plumage.registry.model_page import DESCRIPTION, model_description
from plumage.registry.promote import LONGEST_REASON
from plumage.registry.promotions import Promotion


def test_the_newest_promotions_come_first_with_links_and_whole_reasons() -> None:
    why = "r" * LONGEST_REASON
    history = [Promotion(None, 1, "gate", "there was no champion", "ann"), Promotion(1, 3, "promote", why, "bob")]
    lines = model_description("my birds", history).splitlines()[2:]
    assert [line.split(" since ")[0] for line in lines] == [
        "- **[Version 3](#/models/my%20birds/versions/3)**",
        "- **[Version 1](#/models/my%20birds/versions/1)**",
    ]
    assert lines[0].endswith(f"UTC: {why} (promote, bob)")


def test_as_many_promotions_are_named_as_every_store_takes() -> None:
    history = [Promotion(number - 1, number, "promote", "<" * LONGEST_REASON, "&" * 99) for number in range(1, 30)]
    text = model_description("n" * 250, history)
    assert LONGEST_DESCRIPTION / 2 < len(text) <= LONGEST_DESCRIPTION
    assert text.startswith(DESCRIPTION) and "[Version 29]" in text
    assert model_description("birds", []) == DESCRIPTION
