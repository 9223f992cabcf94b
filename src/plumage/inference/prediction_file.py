"""Predictions as text: a table for people, CSV and JSON Lines for programs, and files of these that grow row by row.

Each row of CSV and JSON Lines names the model, so that a file which is continued later has the answers of one model.
"""

import csv
import fcntl
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from plumage.common.figures import probability
from plumage.common.files import naming
from plumage.common.tables import guarded, unguarded
from plumage.common.text import escaped, shown
from plumage.errors import PredictionFileError
from plumage.inference.stream import Answer

SURROGATES = re.compile("[\ud800-\udfff]+")


class Format(Protocol):
    """Writes answers as text."""

    header: str

    def row(self, answer: Answer) -> str:
        """A photo that could be read, as a whole line or several."""


class RowFormat(Format, Protocol):
    """A format of one line per photo, which can be read again."""

    def name(self, path: str) -> str:
        """A photo's name in its row."""

    def parse(self, line: str) -> str:
        """The photo's name in a line. PredictionFileError with the reason if the line isn't one of this format and model."""

    def begins(self, line: str) -> bool:
        """Whether `line` is, or starts like, the first line of a file."""


class Table:
    """A photo's path, then a line for each class."""

    header = ""

    def row(self, answer: Answer) -> str:
        """The photo and its classes."""
        lines = [f"  {probability(value):>6}  {shown(name)}" for name, value in answer.ranked]
        return "\n".join([shown(answer.path), *lines, ""])


class Csv:
    """photo, pred_1, prob_1, ... pred_K, prob_K, model. Names are as in predictions.csv: escaped, and never a formula."""

    def __init__(self, top_k: int, model: str) -> None:
        self._top_k, self._model = top_k, model
        columns = [f"{name}_{rank}" for rank in range(1, top_k + 1) for name in ("pred", "prob")]
        self.header = ",".join(["photo", *columns, "model"]) + "\n"

    def row(self, answer: Answer) -> str:
        """One line."""
        text = StringIO()
        answers = [cell for name, value in answer.ranked for cell in (guarded(escaped(name)), f"{value:.6f}")]
        csv.writer(text, lineterminator="\n").writerow([guarded(escaped(answer.path)), *answers, self._model])
        return text.getvalue()

    def name(self, path: str) -> str:
        """The path as `escaped` writes it."""
        return escaped(path)

    def parse(self, line: str) -> str:
        """As RowFormat says."""
        (cells,) = csv.reader([line])
        if len(cells) != 2 * self._top_k + 2:
            raise PredictionFileError(f"has {len(cells)} columns, not {2 * self._top_k + 2}")
        _check_model(cells[-1], self._model)
        return unguarded(cells[0])

    def begins(self, line: str) -> bool:
        """Whether it is the header, or its start."""
        return self.header == line or (not line.endswith("\n") and self.header.startswith(line))


class JsonLines:
    """{"photo": ..., "predictions": [{"class": ..., "probability": ...}, ...], "model": ...} in ASCII."""

    header = ""
    _start = '{"photo": "'

    def __init__(self, top_k: int, model: str) -> None:
        self._top_k, self._model = top_k, model

    def row(self, answer: Answer) -> str:
        """One line."""
        predictions = [{"class": name, "probability": round(value, 6)} for name, value in answer.ranked]
        return json.dumps({"photo": self.name(answer.path), "predictions": predictions, "model": self._model}) + "\n"

    def name(self, path: str) -> str:
        r"""The path itself. Bytes that are not UTF-8, which JSON can't have, are written as `\xe9`."""
        return SURROGATES.sub(lambda match: escaped(match[0]), path)

    def parse(self, line: str) -> str:
        """As RowFormat says."""
        row: Any = json.loads(line)
        _check_model(row["model"], self._model)
        if len(row["predictions"]) != self._top_k:
            raise PredictionFileError(f"has {len(row['predictions'])} classes, not {self._top_k}")
        return str(row["photo"])

    def begins(self, line: str) -> bool:
        """Whether it starts with a photo's name."""
        return line.startswith(self._start) or (not line.endswith("\n") and self._start.startswith(line))


FORMATS: dict[str, Callable[[int, str], RowFormat]] = {"csv": Csv, "jsonl": JsonLines}
"""Make the format of that name, for this many classes per photo and with this digest of the model."""


def _check_model(found: str, model: str) -> None:
    if found != model:
        raise PredictionFileError(f"is of another model ({shown(found)[:40]}, not {model})")


class PredictionFile:
    """A file of predictions that is continued after an interruption.

    `done` counts its photos that were not taken yet, by the hash of their names; `taken` is the number of the others.

    A last line that was cut off in the middle is removed. What isn't a regular file, such as a pipe, is only written.

    Raises:
        PredictionFileError: the file was not written in this format by this model, or another process writes it.
        OSError: it can't be opened.
    """

    def __init__(self, path: Path, format: RowFormat) -> None:
        self._path, self._format = path, format
        self.done: Counter[int] = Counter()
        self.taken = 0
        regular = not path.exists() or path.is_file()
        self._file = path.open("ab+" if regular else "wb")
        try:
            if regular and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
                self._lock()
                self._resume()
        except BaseException:
            self._file.close()
            raise

    def take(self, path: str) -> bool:
        """Whether the file has a row of this photo that wasn't taken before."""
        key = hash(self._format.name(path))
        taken = self.done[key] > 0
        if taken:
            self.done[key] -= 1
            self.taken += 1
        return taken

    def write(self, rows: str) -> None:
        """Append rows at once, so that a kill cuts at most the last ones."""
        with naming(self._path):
            self._file.write(rows.encode())
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with naming(self._path):
            self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is closed
        except BlockingIOError:
            raise PredictionFileError(f"{self._path}: another process writes it; wait for it") from None

    def _resume(self) -> None:
        """Read the rows, and remove the start of one at the end."""
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            try:
                cut = not line.endswith(b"\n")
                text = line.decode(errors="ignore" if cut else "strict")  # it may be cut within a letter
                if number == 1 and not self._format.begins(text):
                    raise PredictionFileError(self._unlike(text))
                if cut:
                    break
                if number > 1 or not self._format.header:
                    self.done[hash(self._format.parse(text))] += 1
            except PredictionFileError as error:
                raise PredictionFileError(self._refusal(number, str(error))) from None
            except (ValueError, LookupError, TypeError, csv.Error):
                raise PredictionFileError(self._refusal(number, "is no prediction")) from None
            whole += len(line)
        self._file.truncate(whole)
        if not whole:
            self.write(self._format.header)

    def _unlike(self, first: str) -> str:
        if self._format.header and first.startswith("photo,pred_1,prob_1"):
            return f"has other columns than {self._format.header.strip()}; was --top another number?"
        return f"is not {self._format.header.strip() or 'a prediction in JSON Lines'}"

    def _refusal(self, number: int, reason: str) -> str:
        return f"{self._path}: line {number:,} {reason}; give another --output, or remove this file"
