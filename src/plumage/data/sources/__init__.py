"""Where photos come from. `data.source: NAME` is the module NAME in this folder, whose `from_params` opens it.

Each `from_params(data, paths)` returns a `Source` or raises DataError.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

from plumage.config import Data
from plumage.data.sources.photo import Source, SourcePaths


@contextmanager
def open_source(data: Data, paths: SourcePaths) -> Iterator[Source]:
    """Open the source that `data` names, and remove what it unpacked afterwards.

    Raises:
        DataError: the source can't be used.
    """
    from_params: Callable[[Data, SourcePaths], Source] = import_module(f"{__name__}.{data.source}").from_params
    try:
        yield from_params(data, paths)
    finally:
        for file in paths.scratch.parent.glob(f"{paths.scratch.name}*"):
            file.unlink()
