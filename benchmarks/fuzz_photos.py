"""Feed damaged photos to the decoders, through what download, training and the data page call: `python benchmarks/fuzz_photos.py`.

Inputs are one photo per format cut at every byte, and photos of every format and mode (tests/damaged.py) cut, changed or
tampered with at random. A fault is anything but a photo that all take, or that all refuse with a line: another exception, a
crash, a hang, or a peak of memory over LIMIT_MB more than before. The last line counts the faults; exit code 1 if there are any.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache, partial

import typer
from common import ROOT  # isort: split

from damaged import FORMATS, damaged_photo, verdict, whole_photos

from plumage.common import workers

PER_CHUNK = 50
SECONDS = 20  # per input; they have at most a million pixels
LIMIT_MB = 100


def main(inputs: int = 20_000, seed: int = 0) -> None:
    """Try `inputs` random ones, and every cut of one photo per format; print what became of them, and each fault."""
    workers.SECONDS_PER_STEP = SECONDS
    start, outcomes, faults = time.monotonic(), Counter[tuple[str, str, str]](), 0
    numbers = range(-len(all_cuts()), inputs)  # a negative number is that of a cut
    chunks = [numbers[first : first + PER_CHUNK] for first in range(0, len(numbers), PER_CHUNK)]
    for done in workers.map_in_processes(partial(try_inputs, seed=seed), chunks):
        for number, format, damage, outcome in done:
            outcomes[format, damage, "fault" if outcome.startswith("FAULT") else outcome] += 1
            if outcome.startswith("FAULT"):
                faults += 1
                print(f"seed {seed}, input {number}: {format}, {damage}: {outcome}", file=sys.stderr)
    for (format, damage, outcome), count in sorted(outcomes.items()):
        print(f"{format:6}{damage:15}{outcome:10}{count:7,}")
    print(f"{outcomes.total():,} inputs in {time.monotonic() - start:.0f} s; {faults:,} faults")
    raise typer.Exit(faults > 0)


@cache
def all_cuts() -> list[tuple[str, int, int]]:
    """Format, index into `whole_photos` and size of every cut of the first photo of each format, and of each animation."""
    photos = whole_photos()
    firsts = [next((i for i, (known, _) in enumerate(photos) if known == format), None) for format in FORMATS]
    animated = [i for i, (format, data) in enumerate(photos) if format == "GIF" and len(data) > 3000]
    chosen = [i for i in (*firsts, *animated[:1]) if i is not None]
    return [(photos[i][0], i, size) for i in chosen for size in range(len(photos[i][1]))]


def try_inputs(numbers: range, seed: int, faults: Mapping[int, str] | None = None) -> list[tuple[int, str, str, str]]:
    """What became of some inputs: number, format, damage, and taken, refused or FAULT with the reason."""
    done = []
    for step, number in enumerate(numbers):
        if number < 0:
            format, photo, size = all_cuts()[number]
            damage, data = "cut at a byte", whole_photos()[photo][1][:size]
        else:
            format, damage, data = damaged_photo(seed, number)
        workers.begin(step)
        outcome = f"FAULT: {faults[step]}" if faults and step in faults else outcome_of(f"a.{format.lower()}", data)
        done.append((number, format, damage, outcome))
    return done


def outcome_of(name: str, data: bytes) -> str:
    before = peak_mb()
    try:
        outcome = "refused" if verdict(name, data) else "taken"
    except Exception as error:
        outcome = f"FAULT: {type(error).__name__}: {error}"
    grown = peak_mb() - before
    return f"FAULT: took {grown} MB" if grown > LIMIT_MB else outcome


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    assert ROOT
    typer.run(main)
