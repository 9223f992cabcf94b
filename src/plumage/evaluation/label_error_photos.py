"""Pictures of the photos whose label is likely wrong, for the report."""

from collections.abc import Sequence

from plumage.data.dataset.store import Dataset
from plumage.evaluation.report_data import MAX_LABEL_ERRORS
from plumage.evaluation.result import LabelError
from plumage.evaluation.thumbnails import load_thumbnails
from plumage.models.preprocessing import Preprocessing

SIZE = 192  # side in pixels: a person decides by it


def with_pictures(
    found: Sequence[tuple[str, str, str, float]], dataset: Dataset, preprocessing: Preprocessing
) -> list[LabelError]:
    """Rows of key, label, suggested label and score, the first MAX_LABEL_ERRORS with the picture that the report shows.

    Raises:
        PhotoError: a photo can't be decoded.
    """
    row_of = {key: row for row, key in enumerate(dataset.keys)}
    rows = [row_of[key] for key, *_ in found[:MAX_LABEL_ERRORS]]
    pictures = load_thumbnails(dataset, rows, preprocessing, min(SIZE, preprocessing.size))
    pictures += [b""] * (len(found) - len(pictures))
    return [LabelError(*each, picture) for each, picture in zip(found, pictures, strict=True)]
