"""Near-duplicates that stage split found share a number; every other photo has its own."""

from plumage.data.split.groups import group_numbers


def test_photos_of_a_group_share_a_number_and_others_have_their_own():
    report = {"near_duplicates": [[{"key": "b"}, {"key": "d"}], [{"key": "a"}, {"key": "f"}]]}
    numbers = dict(zip("abcdef", group_numbers(report, list("abcdef")).tolist(), strict=True))
    assert numbers["b"] == numbers["d"] and numbers["a"] == numbers["f"]
    assert len(set(numbers.values())) == 4


def test_without_near_duplicates_every_photo_has_its_own_number():
    assert len(set(group_numbers({"near_duplicates": []}, list("abc")).tolist())) == 3
