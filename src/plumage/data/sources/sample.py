"""`data.source: sample`: photo-like pictures of invented birds, drawn here, the same bytes for the same parameters.

A photo is a function of (seed, species, individual, size) alone, so a small sample is a subset of a large one.
"""

import io
from collections.abc import Iterator
from functools import partial
from typing import Any

from PIL import Image

from plumage.config import Data
from plumage.data.sources.birds.painter import paint
from plumage.data.sources.birds.species import species_table
from plumage.data.sources.layout import PHOTOS_PER_CHUNK
from plumage.data.sources.photo import Chunk, Photo, SourcePaths

JPEG_QUALITY = 90


def from_params(data: Data, paths: SourcePaths) -> "SampleSource":
    """Open the sample that `data` describes."""
    return SampleSource(data.species, data.images_per_species, data.image_size, data.seed)


def draw_photo(seed: int, species_index: int, individual: int, size: int) -> Image.Image:
    """Draw one photo, size x size RGB, of individual 0, 1, ... of species 0, 1, ..."""
    return paint(species_table(species_index + 1)[species_index], (seed, species_index, individual), size)


class SampleSource:
    """`species` x `images_per_species` drawn photos of `image_size` x `image_size` pixels, as JPEG."""

    def __init__(self, species: int, images_per_species: int, image_size: int, seed: int) -> None:
        self.images_per_species, self.image_size, self.seed = images_per_species, image_size, seed
        self.about: dict[str, Any] = {}
        self.classes = [row.name for row in species_table(species)]

    def __len__(self) -> int:
        return len(self.classes) * self.images_per_species

    def chunks(self) -> Iterator[Chunk]:
        """Chunks of photos of one species each, species by species."""
        for k, label in enumerate(self.classes):
            for start in range(0, self.images_per_species, PHOTOS_PER_CHUNK):
                stop = min(start + PHOTOS_PER_CHUNK, self.images_per_species)
                yield partial(_draw, self.seed, k, label, range(start, stop), self.image_size)


def _draw(seed: int, species_index: int, label: str, individuals: range, size: int) -> list[Photo]:
    photos = []
    for i in individuals:
        buffer = io.BytesIO()
        draw_photo(seed, species_index, i, size).save(buffer, "JPEG", quality=JPEG_QUALITY)
        photos.append(Photo(key=f"{label}/{i:04d}.jpg", label=label, split=None, data=buffer.getvalue()))
    return photos
