"""`data.source: sample`: photo-like pictures of invented birds, drawn here, the same bytes for the same parameters.

A photo is a function of (seed, species, individual, size) and of nothing else: not of how many species or photos are
asked for, not of the number of processes, not of what was drawn before. So a small sample is a part of a large one.
"""

import io
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator

from PIL import Image

from plumage.data.photo import Photo
from plumage.data.sources.birds.painter import paint
from plumage.data.sources.birds.species import species_table

JPEG_QUALITY = 90
_CHUNK = 64  # photos drawn by a worker at a time, all of one species


def draw_photo(seed: int, species_index: int, individual: int, size: int) -> Image.Image:
    """Draw one photo, size x size RGB, of individual 0, 1, ... of species 0, 1, ..."""
    return paint(species_table(species_index + 1)[species_index], (seed, species_index, individual), size)


class SampleSource:
    """`species` x `images_per_species` drawn photos of `image_size` x `image_size` pixels, as JPEG."""

    def __init__(self, species: int, images_per_species: int, image_size: int, seed: int) -> None:
        self.images_per_species = images_per_species
        self.image_size = image_size
        self.seed = seed
        self.classes = [row.name for row in species_table(species)]

    def __len__(self) -> int:
        return len(self.classes) * self.images_per_species

    def photos(self, processes: int | None = None) -> Iterator[Photo]:
        """Yield every photo, species by species, in an order that does not depend on `processes` (None: all cores).

        At most two chunks a process are in flight, so memory stays flat however slowly the photos are taken.
        """
        processes = len(os.sched_getaffinity(0)) if processes is None else processes
        chunks = [
            (self.seed, k, start, min(start + _CHUNK, self.images_per_species), self.image_size)
            for k in range(len(self.classes))
            for start in range(0, self.images_per_species, _CHUNK)
        ]
        if processes == 1 or len(chunks) == 1:
            for chunk in chunks:
                yield from self._labelled(chunk, _draw_chunk(chunk))
            return
        # "spawn": the caller may hold threads (torch, Arrow), which a forked child cannot use safely.
        with multiprocessing.get_context("spawn").Pool(min(processes, len(chunks)), _ignore_interrupt) as pool:
            waiting: deque = deque()  # leaving the block, by the end or by an exception, terminates the workers
            for chunk in chunks:
                waiting.append((chunk, pool.apply_async(_draw_chunk, (chunk,))))
                if len(waiting) > 2 * processes:
                    done, result = waiting.popleft()
                    yield from self._labelled(done, result.get())
            for done, result in waiting:
                yield from self._labelled(done, result.get())

    def _labelled(self, chunk: tuple[int, int, int, int, int], photos: list[bytes]) -> Iterator[Photo]:
        _, k, start, _, _ = chunk
        label = self.classes[k]
        for i, data in enumerate(photos, start):
            yield Photo(key=f"{label}/{i:04d}.jpg", label=label, part=None, data=data)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent, which terminates the pool: one traceback instead of one for each process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw_chunk(chunk: tuple[int, int, int, int, int]) -> list[bytes]:
    seed, k, start, stop, size = chunk
    photos = []
    for i in range(start, stop):
        buffer = io.BytesIO()
        draw_photo(seed, k, i, size).save(buffer, "JPEG", quality=JPEG_QUALITY)
        photos.append(buffer.getvalue())
    return photos
