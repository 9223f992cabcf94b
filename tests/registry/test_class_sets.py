"""Two models' classes are compared by name, whatever their order and spelling."""

from plumage.common.class_names import ClassNames
from plumage.registry.class_sets import ClassSets, class_set, count, named

SAME = ClassNames({})


def test_order_and_spelling_make_no_other_classes() -> None:
    assert class_set(["Owl", "jay"]) == class_set(["JAY", "owl "]) != class_set(["owl", "wren"])
    assert class_set(["Owl", "jay"]).startswith("2-classes-")
    assert ClassSets.of(["Owl", "jay"], ["JAY", "owl"], SAME).equal


def test_shared_new_and_lost_classes_are_told_apart_after_renaming_and_merging() -> None:
    sets = ClassSets.of(["owl", "jay", "wren"], ["jay", "owl"], SAME)
    assert (sets.shared, sets.new, sets.lost) == (["owl", "jay"], ["wren"], []) and sets.comparable
    merged = ClassNames({"grey owl": "owl", "tawny owl": "owl", "bluejay": "jay"})
    assert ClassSets.of(["owl", "jay"], ["grey owl", "tawny owl", "bluejay"], merged).equal
    sets = ClassSets.of(["owl", "kite"], ["owl", "jay"], SAME)
    assert (sets.shared, sets.new, sets.lost) == (["owl"], ["kite"], ["jay"]) and not sets.comparable


def test_a_sentence_names_few_classes() -> None:
    assert named(["a", "b"]) == "'a', 'b'" and named("abcdef") == "'a', 'b', 'c' and 3 more"
    assert count(["a"]) == "1 class" and count(["a", "b"]) == "2 classes"
