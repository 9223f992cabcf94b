"""Find photos that show the same picture: resized, recompressed, slightly cropped, brighter or darker.

1. Each photo's 16 x 16 thumbnail gets a perceptual hash of 63 bits, the signs of its low frequencies (pHash: Zauner 2010,
   "Implementation and benchmarking of perceptual image hash functions"). So do 15 slight crops of it, since a crop changes
   all frequencies.
2. A pair is a candidate when one photo's hash is close to the other's, or to that of a crop of the other. Bands of equal
   bits find them (locality-sensitive hashing: Indyk & Motwani 1998), without comparing all pairs.
3. A candidate counts when the thumbnails correlate, one of them under the best of a finer set of crops.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
from numpy.typing import NDArray

from plumage.common.cores import cores
from plumage.data.dataset.thumbnail import SIDE, cells

FREQUENCIES = 8
RADIUS = 7  # hashes that differ in up to this many of 63 bits make a candidate
MIN_CONTRAST = 4.0  # thumbnails with a smaller standard deviation of luma (0 to 255) show nothing to compare
BITS_PER_BAND = (12, 16)  # up to MANY photos, and for more; wider bands give fewer pairs, by chance and true ones
MANY = 200_000
PAIRS_PER_BLOCK = 500_000
COARSE_CUTS = (0.0, 0.06)  # shares that a crop may cut off each end of a side, for comparing hashes
FINE_CUTS = (0.0, 0.02, 0.04, 0.06, 0.08, 0.1)  # the same, for comparing thumbnails
WORTH_FITTING = 0.8  # thumbnails that correlate less under the coarse cuts skip the fine ones


def group_near_duplicates(thumbnails: NDArray[np.uint8], similarity: float) -> list[list[int]]:
    """Group the photos that are linked by a correlation of `similarity` or more: two or more rows per group.

    `thumbnails` is photos x 256. Rows are sorted within a group, and groups by their first row.
    """
    if not len(thumbnails):
        return []
    hashes, contrast = _hashes(thumbnails)
    pairs = _candidates(hashes, contrast >= MIN_CONTRAST)
    alike = pairs[_similarities(thumbnails, pairs) >= similarity]
    return connected(alike) if len(alike) else []


def _hashes(thumbnails: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Return the hashes, crops x photos (crop 0 is the whole photo), and each photo's contrast."""
    dct = np.cos(np.pi * np.outer(np.arange(FREQUENCIES), np.arange(SIDE) + 0.5) / SIDE)  # FREQUENCIES x SIDE
    frequencies = [dct @ cut for cut in _cuts(COARSE_CUTS)]
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
    """Return pairs of rows, the smaller first, where a hash of one is within RADIUS of the other's uncropped hash: n x 2."""
    rows = np.flatnonzero(usable)
    hashes = hashes if usable.all() else hashes[:, rows]
    bits = BITS_PER_BAND[len(rows) > MANY]

    def search(shift: int) -> list[NDArray[np.int64]]:
        def band(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
            return ((hashes >> np.uint64(shift)) & np.uint64(2**bits - 1)).astype(np.uint32)

        order = np.argsort(band(hashes[0]), kind="stable")
        uncropped = hashes[0][order]
        in_order = band(uncropped)
        found = []
        for crop in hashes:
            first = np.searchsorted(in_order, band(crop), "left")
            count = np.searchsorted(in_order, band(crop), "right") - first
            for i, j in _expand(first, count):
                near = np.flatnonzero(np.bitwise_count(crop[i] ^ uncropped[j]) <= RADIUS)
                pairs = np.stack([i[near], order[j[near]]])
                found.append(np.sort(pairs[:, pairs[0] != pairs[1]], axis=0))
        return found

    with ThreadPoolExecutor(cores()) as pool:  # NumPy releases the GIL
        found = [pairs for bands in pool.map(search, range(0, 64 - bits + 1, bits)) for pairs in bands]
    return rows[np.unique(np.concatenate([np.empty((2, 0), np.int64), *found], axis=1), axis=1).T]


def _expand(
    first: NDArray[np.int64], count: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield every (i, j) with first[i] <= j < first[i] + count[i], in blocks of about PAIRS_PER_BLOCK."""
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_PER_BLOCK, "right")))
        counts = count[start:stop]
        i = np.repeat(np.arange(start, stop), counts)
        within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield i, first[i] + within
        start = stop


def _similarities(thumbnails: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return each pair's correlation of thumbnails, with one or the other under the crop that fits best."""

    def of_block(start: int) -> NDArray[np.float32]:
        block = thumbnails[pairs[start : start + 2048].T].reshape(2, -1, SIDE, SIDE).astype(np.float32)
        return np.maximum(_fit(block[0], block[1]), _fit(block[1], block[0]))

    with ThreadPoolExecutor(cores()) as pool:
        return np.concatenate([np.empty(0, np.float32), *pool.map(of_block, range(0, len(pairs), 2048))])


def _fit(source: NDArray[np.float32], full: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each of `full`'s best correlation with a crop of its counterpart in `source`: a coarse one, then refined."""
    full = _unit(full)
    coarse, fine = _cuts(COARSE_CUTS), _cuts(FINE_CUTS)
    fits = np.stack([_correlation(rows @ source @ columns.T, full) for rows, columns in product(coarse, repeat=2)])
    best = fits.max(0)
    worth = best >= WORTH_FITTING
    source, full, columns = source[worth], full[worth], coarse[fits[:, worth].argmax(0) % len(coarse)]
    for _ in range(2):
        strips = source @ columns.transpose(0, 2, 1)
        rows = fine[np.stack([_correlation(choice @ strips, full) for choice in fine]).argmax(0)]
        strips = rows @ source
        fits = np.stack([_correlation(strips @ choice.T, full) for choice in fine])
        columns = fine[fits.argmax(0)]
        best[worth] = np.maximum(best[worth], fits.max(0))
    return best


def _correlation(images: NDArray[np.float32], units: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlate each image with its counterpart in `units`, which `_unit` has normalised."""
    return np.einsum("ij,ij->i", _unit(images), units)


def _unit(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Flatten each image to a vector of mean 0 and length 1."""
    flat = images.reshape(len(images), SIDE * SIDE)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.sqrt(np.einsum("ij,ij->i", flat, flat)), 1e-6)[:, None]


def _cuts(takes: tuple[float, ...]) -> NDArray[np.float32]:
    """Return matrices that resample a side of a thumbnail after cutting off each pair of `takes`: cuts x SIDE x SIDE."""
    return np.stack([cells(SIDE, first, last) for first, last in product(takes, repeat=2)])


def connected(pairs: NDArray[np.int64]) -> list[list[int]]:
    """Return the connected components of the graph whose edges are `pairs` (n x 2), sorted by their first row."""
    from scipy.sparse import coo_array  # late: importing SciPy's graphs takes 0.3 s
    from scipy.sparse.csgraph import connected_components

    rows, nodes = np.unique(pairs, return_inverse=True)
    edges = coo_array((np.ones(len(pairs), np.bool_), nodes.reshape(pairs.shape).T), shape=(len(rows), len(rows)))
    _, component_of = connected_components(edges, directed=False)
    groups: dict[int, list[int]] = {}
    for row, component in zip(rows.tolist(), component_of.tolist(), strict=True):
        groups.setdefault(component, []).append(row)
    return list(groups.values())
