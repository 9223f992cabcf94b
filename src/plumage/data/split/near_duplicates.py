"""Photos that show the same picture: resized, recompressed, slightly cropped, brighter or darker.

Each photo's 16 x 16 thumbnail gets a perceptual hash of 63 bits, the signs of its low frequencies (pHash: Zauner 2010,
"Implementation and benchmarking of perceptual image hash functions"), and so do 15 slight crops of it, since a crop moves
all frequencies. Pairs in which a photo's hash is near another's, or near that of a crop of it, are candidates; they are
found by bands of bits that agree (locality-sensitive hashing: Indyk & Motwani 1998), not by comparing all pairs. A
candidate counts when the thumbnails correlate, one of them cut by the best of a finer set of crops.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
from numpy.typing import NDArray

from plumage.common.cores import cores
from plumage.data.dataset.thumbnail import SIDE, cells

FREQUENCIES = 8
RADIUS = 7
"""Hashes that differ in so many of 63 bits are looked at more closely."""
MIN_CONTRAST = 4.0
"""Thumbnails whose luma deviates less (of 255) show nothing that could be compared."""
BITS_PER_BAND = (12, 16)
"""For up to, and over, MANY photos: with more bits agreeing, fewer pairs by chance, and fewer true ones found."""
MANY = 200_000
PAIRS_AT_ONCE = 500_000
COARSE_CUTS = (0.0, 0.06)
"""What a crop may take off each side, as a share of it, where hashes are compared ..."""
FINE_CUTS = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1)
"""... and where thumbnails are."""
WORTH_FITTING = 0.8
"""Thumbnails that correlate less under the coarse cuts are not fitted with the fine ones."""


def group_near_duplicates(thumbnails: NDArray[np.uint8], similarity: float) -> list[list[int]]:
    """The groups, of two or more rows each, in which photos are linked by a correlation of `similarity` or more.

    `thumbnails` is photos x 256. Rows are in order within a group, and groups by their first row.
    """
    if not len(thumbnails):
        return []
    hashes, contrast = _hashes(thumbnails)
    pairs = _candidates(hashes, contrast >= MIN_CONTRAST)
    alike = pairs[_similarities(thumbnails, pairs) >= similarity]
    return _linked(alike)


def _hashes(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Crops x photos: the hash of each photo (crop 0 is all of it) and of its crops; and each photo's contrast."""
    frequencies = [_dct() @ cut for cut in _cuts(COARSE_CUTS)]
    crops = [np.kron(rows, columns)[1:] for rows, columns in product(frequencies, repeat=2)]
    projection = np.concatenate(crops).astype(np.float32)
    hashes = np.empty((len(crops), len(thumbnails)), np.uint64)
    contrast = np.empty(len(thumbnails), np.float32)
    for start in range(0, len(thumbnails), 8192):
        block = thumbnails[start : start + 8192].astype(np.float32)
        contrast[start : start + 8192] = block.std(1)
        bits = (block @ projection.T > 0).reshape(len(block), len(crops), -1)
        bits = np.concatenate([bits, np.zeros_like(bits[:, :, :1])], axis=2)
        hashes[:, start : start + 8192] = np.packbits(bits, axis=2).view(np.uint64)[:, :, 0].T
    return hashes, contrast


def _candidates(hashes: NDArray[np.uint64], usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of rows, the smaller first, of which a hash of one is within RADIUS of the whole photo's hash of the other."""
    rows = np.flatnonzero(usable)
    hashes = hashes if usable.all() else hashes[:, rows]
    bits = BITS_PER_BAND[len(rows) > MANY]

    def search(shift: int) -> list[NDArray[np.int64]]:
        def band(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
            return ((hashes >> np.uint64(shift)) & np.uint64(2**bits - 1)).astype(np.uint32)

        order = np.argsort(band(hashes[0]), kind="stable")
        whole = hashes[0][order]
        in_order = band(whole)
        found = []
        for crop in hashes:
            first = np.searchsorted(in_order, band(crop), "left")
            count = np.searchsorted(in_order, band(crop), "right") - first
            for i, j in _expand(first, count):
                near = np.flatnonzero(np.bitwise_count(crop[i] ^ whole[j]) <= RADIUS)
                pairs = np.stack([i[near], order[j[near]]])
                found.append(np.sort(pairs[:, pairs[0] != pairs[1]], axis=0))
        return found

    with ThreadPoolExecutor(cores()) as pool:  # NumPy works outside Python's lock
        found = [pairs for bands in pool.map(search, range(0, 64 - bits + 1, bits)) for pairs in bands]
    return rows[np.unique(np.concatenate([np.empty((2, 0), np.int64), *found], axis=1), axis=1).T]


def _expand(
    first: NDArray[np.int64], count: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Every (i, j) with first[i] <= j < first[i] + count[i], about PAIRS_AT_ONCE at a time."""
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, "right")))
        counts = count[start:stop]
        i = np.repeat(np.arange(start, stop), counts)
        within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield i, first[i] + within
        start = stop


def _similarities(thumbnails: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """For each pair the correlation of the thumbnails, one or the other cut by the crop that fits best."""

    def of_block(start: int) -> NDArray[np.float32]:
        block = thumbnails[pairs[start : start + 2048].T].reshape(2, -1, SIDE, SIDE).astype(np.float32)
        return np.maximum(_fit(block[0], block[1]), _fit(block[1], block[0]))

    with ThreadPoolExecutor(cores()) as pool:  # likewise
        return np.concatenate([np.empty(0, np.float32), *pool.map(of_block, range(0, len(pairs), 2048))])


def _fit(cut: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.float32]:
    """The best correlation of each of `whole` with a crop of its counterpart: coarsely first, then side by side finely."""
    whole = _unit(whole)
    coarse, fine = _cuts(COARSE_CUTS), _cuts(FINE_CUTS)
    fits = np.stack([_correlation(rows @ cut @ columns.T, whole) for rows, columns in product(coarse, repeat=2)])
    best = fits.max(0)
    worth = best >= WORTH_FITTING
    cut, whole, columns = cut[worth], whole[worth], coarse[fits[:, worth].argmax(0) % len(coarse)]
    for _ in range(2):
        strips = cut @ columns.transpose(0, 2, 1)
        rows = fine[np.stack([_correlation(choice @ strips, whole) for choice in fine]).argmax(0)]
        strips = rows @ cut
        fits = np.stack([_correlation(strips @ choice.T, whole) for choice in fine])
        columns = fine[fits.argmax(0)]
        best[worth] = np.maximum(best[worth], fits.max(0))
    return best


def _correlation(images: NDArray[np.float32], units: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each image with its counterpart in `units`, as `_unit` makes them."""
    return np.einsum("ij,ij->i", _unit(images), units)


def _unit(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each image as a vector of mean 0 and length 1."""
    flat = images.reshape(len(images), SIDE * SIDE)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.sqrt(np.einsum("ij,ij->i", flat, flat)), 1e-6)[:, None]


def _cuts(takes: tuple[float, ...]) -> NDArray[np.float32]:
    """Cuts x SIDE x SIDE: matrices that resample a side of a thumbnail, cut by each of `takes` (a share) at either end.
    The first takes nothing off.
    """
    return np.stack([cells(SIDE, first, last) for first, last in product(takes, repeat=2)])


def _dct() -> NDArray:
    """FREQUENCIES x SIDE: the lowest frequencies of the discrete cosine transform."""
    return np.cos(np.pi * np.outer(np.arange(FREQUENCIES), np.arange(SIDE) + 0.5) / SIDE)


def _linked(pairs: NDArray[np.int64]) -> list[list[int]]:
    """The connected components of a graph with these edges."""
    root: dict[int, int] = {}

    def find(row: int) -> int:
        while root.setdefault(row, row) != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    for one, other in pairs.tolist():
        low, high = sorted((find(one), find(other)))
        root[high] = low
    groups: dict[int, list[int]] = {}
    for row in sorted(root):
        groups.setdefault(find(row), []).append(row)
    return sorted(groups.values())
