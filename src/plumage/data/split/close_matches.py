"""Names similar to a mistyped one, among up to a million."""

import bisect
import difflib

MAX_COMPARED = 2000  # names compared with a mistyped one: comparing a million would take a minute


def nearest(wanted: str, names: list[str]) -> list[str]:
    """Return up to three names similar to `wanted`: names that contain it, else alphabetical neighbours and keys of the same file."""
    by_lower = {name.lower(): name for name in names}
    wanted = wanted.lower()
    candidates, cutoff = [name for name in by_lower if wanted in name], 0.0
    if not candidates:
        ordered, end, cutoff = sorted(by_lower), "/" + wanted.rpartition("/")[2], 0.6
        place = bisect.bisect(ordered, wanted)
        candidates = [*ordered[max(0, place - 200) : place + 200], *(name for name in ordered if name.endswith(end))]
    near = difflib.get_close_matches(wanted, dict.fromkeys(candidates[:MAX_COMPARED]), n=3, cutoff=cutoff)
    return [by_lower[name] for name in near]
