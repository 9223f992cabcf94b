"""Entries of an outbox: metrics, tags or the end of a run, one per line, as JSON and its CRC-32.

A line without a checksum, as earlier versions wrote it, is an entry, too.
"""

import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Status = Literal["FINISHED", "FAILED", "KILLED"]
"""A run's final status."""
Whole = Annotated[int, Field(ge=0, lt=2**63)]
"""A number that every store's database can hold."""

EPOCHS_PER_REQUEST = 50
"""The metrics of so many epochs go in one request: MLflow takes 1,000 values."""


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", ser_json_inf_nan="constants")


class MetricsEntry(_Entry):
    """Values by metric, at an epoch (`step`) and a time in ms since 1970."""

    metrics: dict[str, float]
    step: Whole
    time: Whole


class TagsEntry(_Entry):
    """Tags to set."""

    tags: dict[str, str]


class EndEntry(_Entry):
    """The status with which the run ends."""

    end: Status


Entry = MetricsEntry | TagsEntry | EndEntry
_ENTRY: TypeAdapter[Any] = TypeAdapter(Entry)


def to_line(entry: Entry) -> bytes:
    """An entry as a line."""
    text = entry.model_dump_json().encode()
    return b"%s\t%08x\n" % (text, zlib.crc32(text))


def from_line(line: bytes) -> Entry:
    """The entry in a line. ValueError says in a few words why there is none."""
    text, _, checksum = line.strip(b"\n").partition(b"\t")
    if checksum and checksum != b"%08x" % zlib.crc32(text):
        raise ValueError("its checksum differs")
    try:
        entry: Entry = _ENTRY.validate_json(text)
    except ValidationError:
        raise ValueError("it is no entry") from None
    return entry


def deliver(run_id: str, entry: Entry) -> None:
    """Send an entry to the store. Sent twice, it is stored once."""
    client = MlflowClient()
    match entry:
        case EndEntry(end=status):
            client.set_terminated(run_id, status)
        case TagsEntry(tags=tags):
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()], synchronous=True)
        case MetricsEntry():
            deliver_metrics(run_id, [entry])


def deliver_metrics(run_id: str, entries: Sequence[MetricsEntry]) -> None:
    """Send metrics to the store in one request. Sent twice, they are stored once."""
    metrics = [
        Metric(name, value, entry.time, entry.step) for entry in entries for name, value in entry.metrics.items()
    ]
    MlflowClient().log_batch(run_id, metrics=metrics, synchronous=True)
