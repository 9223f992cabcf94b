"""Classes that are renamed or merged have their new name in any spelling, and an impossible change is one line."""

import pytest

from plumage.common.class_names import ClassNames


def test_classes_are_renamed_and_merged_in_any_spelling_and_over_several_steps() -> None:
    names = ClassNames({"Grey Owl": "Owl", "TAWNY OWL": "Owl", "Owl": "Strix", "Jay": "JAY"})
    assert [names(label) for label in ("grey  owl", "Tawny owl", "owl", "strix", "jay", "Wren")] == [
        "Strix", "Strix", "Strix", "Strix", "JAY", "Wren",
    ]  # fmt: skip
    assert names.renamed(["GREY OWL", "owl", "Wren"]) == {"Strix": ["GREY OWL", "owl"]}
    assert names.unused(["grey owl", "Wren"]) == ["TAWNY OWL", "Owl", "Jay"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"A": "B", "B": "a"}, "a name leads back to itself ('A' to 'B' to 'a')"),
        ({"A": "B", "B": "C", "C": "B"}, "a name leads back to itself"),
        ({"A": "B", "a": "C"}, "'a' gets two new names"),
    ],
)
def test_a_change_without_an_end_or_with_two_is_refused(changes: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match="^data.classes: ") as error:
        ClassNames(changes)
    assert told in str(error.value) and "\n" not in str(error.value)
