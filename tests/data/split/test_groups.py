"""Near-duplicates share a number."""

from plumage.data.split.groups import group_numbers


def test_near_duplicates_share_a_number_and_others_have_their_own() -> None:
    first, second, *others = group_numbers([[0, 3], [1, 2, 5]], 7)[[0, 1, 4, 6]].tolist()
    numbers = group_numbers([[0, 3], [1, 2, 5]], 7).tolist()
    assert numbers == [first, second, second, first, others[0], second, others[1]]
    assert len({first, second, *others}) == 4
    assert group_numbers([], 2).tolist() == [0, 1]
