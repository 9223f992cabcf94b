"""Hugging Face data sets, fetched by the real huggingface_hub from a stand-in for the Hub.

The library reads the Hub's address at import, so each fetch is a process of its own.
"""

import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stand_ins import Request, StandIn, closed_port, serve
from support import make_photo
from warm_python import warm_python

from plumage.data.sources.huggingface import split_of
from plumage.data.sources.parquet import ParquetSource, _read_images
from plumage.data.sources.photo import Photo
from plumage.errors import DataError

JPEG, PNG = make_photo((90, 60, 200), 0), make_photo((90, 60, 200), 1, format="PNG")
OLD, NEW = "a" * 40, "b" * 40
FETCH = """
import hashlib, json, os, pickle, sys
from pathlib import Path
from plumage.data.sources import retry
from plumage.data.sources.huggingface import huggingface_source
from plumage.errors import DataError

retry.BACKOFF_SECONDS = 0.001
retry.STALL_SECONDS = float(os.environ.get("STALL_SECONDS", 600))
dataset, revision, scratch = sys.argv[1], sys.argv[2] or None, Path(sys.argv[3])
try:
    source = huggingface_source(dataset, revision, scratch)
    chunks = [pickle.loads(pickle.dumps(chunk)) for chunk in source.chunks()]
    photos = [(p.key, p.label, p.split, hashlib.sha256(p.data).hexdigest()) for chunk in chunks for p in chunk()]
    print(json.dumps({"about": source.about, "length": len(source), "photos": photos}))
except DataError as error:
    print(json.dumps({"error": str(error)}))
"""


def table(
    images: list[bytes | None], labels: list[Any], classes: list[str] | None = None, named: str | None = None
) -> pa.Table:
    """A table as the library `datasets` writes it."""
    features: dict[str, Any] = {"image": {"_type": "Image"}, "label": {"dtype": "string", "_type": "Value"}}
    if classes:
        features["label"] = {"names": classes, "_type": "ClassLabel"}
    columns = {
        "image": pa.array(
            [None if image is None else {"bytes": image, "path": named} for image in images],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "label": pa.array(labels, pa.int64() if classes else pa.string()),
    }
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def packed_table(*args: Any, **keywords: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table(*args, **keywords), buffer)
    return buffer.getvalue()


def zipped(photos: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in photos.items():
            archive.writestr(name, data)
    return packed.getvalue()


def tar_gz(photos: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in photos.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Hub(StandIn):
    """Has one data set, me/birds, with the files of each commit; main is the newest."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: dict[str, dict[str, bytes]] = {}
        self.revisions = {"main": NEW, "v1": OLD}
        self.gated = False

    def answer(self, request: Request, path: str, body: dict[str, Any]) -> None:
        head, _, rest = path.removeprefix("/api").partition("/datasets/me/birds")
        words = rest.strip("/").split("/", 2)
        commit = self.revisions.get(words[1] if len(words) > 1 else "main", words[-1] if len(words) == 1 else words[1])
        if head or not path.startswith(("/api/datasets/me/birds", "/datasets/me/birds")):
            request.send(b"", 404, {"X-Error-Code": "RepoNotFound"})
        elif self.gated:
            request.send(b"", 403, {"X-Error-Code": "GatedRepo"})
        elif commit not in self.commits:
            request.send(b"", 404, {"X-Error-Code": "RevisionNotFound"})
        elif words[0] in ("", "revision"):
            request.send_json({"id": "me/birds", "sha": commit})
        elif words[0] == "tree":
            files = self.commits[commit].items()
            request.send_json(
                [{"type": "file", "path": name, "size": len(data), "oid": digest(data)[:40]} for name, data in files]
            )
        elif words[0] == "resolve" and words[2] in self.commits[commit]:
            request.send_file(self.commits[commit][words[2]], {"X-Repo-Commit": commit})

    def fetched(self) -> list[str]:
        """The files that were sent, completely or not."""
        return [seen.path.split("/", 6)[-1] for seen in self.seen if seen.method == "GET" and "/resolve/" in seen.path]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve(Hub()) as stand_in:
        yield stand_in


class Fetch:
    """Fetches in a process with its own cache, and returns the result."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def __call__(self, dataset: str = "me/birds", revision: str = "", **variables: str) -> dict[str, Any]:
        settings = {"HF_ENDPOINT": self.url, "HF_HOME": str(self.folder / "hub"), "HF_HUB_DISABLE_XET": "1"}
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        done = subprocess.run(
            [warm_python(), "-c", FETCH, dataset, revision, str(self.folder / "scratch")],
            env=inherited | settings | quiet | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert "\n" not in result.get("error", "")
        return result


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Fetch:
    return Fetch(hub.url, tmp_path)


def test_parquet_files_give_labels_and_splits_are_fetched_once_and_a_commit_needs_no_network(
    hub: Hub, fetch: Fetch
) -> None:
    classes = ["BLUE JAY", "ORIOLE"]
    hub.commits[NEW] = {
        "README.md": b"---\nlicense: cc0-1.0\ntags: [birds]\n---\n# Birds",
        "data/train-00000-of-00002.parquet": packed_table([JPEG, PNG], [1, 0], classes),
        "data/train-00001-of-00002.parquet": packed_table([PNG], [1], classes),
        "data/validation-00000-of-00001.parquet": packed_table([JPEG], [0], classes),
    }
    result = fetch()
    assert result["photos"] == [
        ["train/ORIOLE/000000.jpg", "ORIOLE", "train", digest(JPEG)],
        ["train/BLUE JAY/000001.png", "BLUE JAY", "train", digest(PNG)],
        ["train/ORIOLE/000002.png", "ORIOLE", "train", digest(PNG)],
        ["val/BLUE JAY/000000.jpg", "BLUE JAY", "val", digest(JPEG)],
    ]
    assert result["length"] == 4
    assert result["about"] == {
        "passed_over": {}, "merged_classes": {}, "dataset": "me/birds", "revision": NEW, "licence": "cc0-1.0",
    }  # fmt: skip
    assert len(hub.fetched()) == 4
    assert fetch() == result
    assert len(hub.fetched()) == 4
    fetch.url = f"http://127.0.0.1:{closed_port()}"
    assert fetch(revision=NEW) == result
    assert fetch(revision=NEW, HF_HUB_OFFLINE="1") == result
    assert "no connection to 127.0.0.1" in fetch()["error"]
    assert "HF_HUB_OFFLINE" in fetch(HF_HUB_OFFLINE="1")["error"]


def test_archives_give_their_splits_and_one_class_for_all_spellings(hub: Hub, fetch: Fetch) -> None:
    hub.commits[NEW] = {
        "data/train.tar.gz": tar_gz(
            {"birds/BLUE  JAY/1.jpg": JPEG, "birds/BLUE  JAY/2.jpg": JPEG, "birds/ORIOLE/1.png": PNG}
        ),
        "data/valid.zip": zipped(
            {"Blue Jay/1.jpg": PNG, "ORIOLE/1.jpg": JPEG, "notes.txt": b"", "WREN/1.txt": b"", "oriole /": b""}
        ),
        "more.zip": zipped({"test/ORIOLE/1.jpg": JPEG, "train/ORIOLE/1.jpg": PNG}),
    }
    result = fetch()
    assert sorted(result["photos"]) == [
        ["more/test/ORIOLE/1.jpg", "ORIOLE", "test", digest(JPEG)],
        ["more/train/ORIOLE/1.jpg", "ORIOLE", "train", digest(PNG)],
        ["train/BLUE  JAY/1.jpg", "BLUE JAY", "train", digest(JPEG)],
        ["train/BLUE  JAY/2.jpg", "BLUE JAY", "train", digest(JPEG)],
        ["train/ORIOLE/1.png", "ORIOLE", "train", digest(PNG)],
        ["valid/Blue Jay/1.jpg", "BLUE JAY", "val", digest(PNG)],
        ["valid/ORIOLE/1.jpg", "ORIOLE", "val", digest(JPEG)],
    ]
    assert result["length"] == 7
    assert result["about"]["merged_classes"] == {"BLUE JAY": ["BLUE JAY", "Blue Jay"]}
    assert result["about"]["passed_over"] == {".txt": 2}
    assert result["about"]["empty_classes"] == {"WREN": "1 .txt"}


def test_class_folders_are_read_and_revision_pins_what_is_fetched(hub: Hub, fetch: Fetch) -> None:
    hub.commits[OLD] = {"README.md": b"", "train/JAY/1.jpg": JPEG, "test/JAY/2.JPG": PNG, "model.h5": b"no photo"}
    hub.commits[NEW] = {"train/OWL/1.jpg": PNG}
    photos = [["test/JAY/2.JPG", "JAY", "test", digest(PNG)], ["train/JAY/1.jpg", "JAY", "train", digest(JPEG)]]
    for revision in (OLD, "v1"):
        result = fetch(revision=revision)
        assert result["photos"] == photos
        assert result["about"]["revision"] == OLD
    assert sorted(hub.fetched()) == ["test/JAY/2.JPG", "train/JAY/1.jpg"]
    assert fetch()["photos"] == [["train/OWL/1.jpg", "OWL", "train", digest(PNG)]]


def test_a_dropped_file_resumes_and_a_busy_hub_is_retried(hub: Hub, fetch: Fetch) -> None:
    photo = make_photo((10, 200, 30), 0, size=(400, 300))
    hub.commits[NEW] = {"JAY/1.jpg": photo}
    hub.statuses, hub.drops = [503, 429], [1000]
    assert fetch()["photos"] == [["JAY/1.jpg", "JAY", None, digest(photo)]]
    assert len(hub.fetched()) == 2


def test_a_hub_that_hardly_sends_is_given_up_in_one_line(hub: Hub, fetch: Fetch) -> None:
    hub.commits[NEW] = {f"JAY/{number}.png": PNG * 10_000 for number in range(3)}
    hub.throttle = 5.0
    assert re.fullmatch(
        r"data.dataset: me/birds: (only [\d,]+ bytes|no data) for 1 s; .*", fetch(STALL_SECONDS="1")["error"]
    )


def test_what_cannot_be_fetched_is_one_line(hub: Hub, fetch: Fetch) -> None:
    hub.commits[NEW] = {"README.md": b"# Birds", "data.parquet": packed_table([JPEG], ["x"]).replace(b"PAR1", b"PAR0")}
    assert "isn't at 127.0.0.1, or it is private" in fetch("me/fish")["error"]
    assert "no revision v7" in fetch(revision="v7")["error"]
    assert "is not a complete parquet file" in fetch()["error"]
    hub.gated = True
    assert "HF_TOKEN" in fetch()["error"]


def test_the_error_for_a_data_set_without_photos_lists_the_layouts(hub: Hub, fetch: Fetch) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a bird"], "label": ["JAY"]}), buffer)
    hub.commits[NEW] = {"README.md": b"# Birds", "data.parquet": buffer.getvalue()}
    error = fetch()["error"]
    assert all(layout in error for layout in ("parquet", "zip or tar", "class folders"))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00005.parquet", "train"),
        ("train/0000.parquet", "train"),
        ("default/validation/0000.parquet", "val"),
        ("data/valid-00000-of-00001.parquet", "val"),
        ("my_test_set.zip", "test"),
        ("Training.tar.gz", "train"),
        ("data.parquet", None),
        ("trainers.zip", None),
        ("train-and-test.zip", None),
    ],
)
def test_the_split_is_read_from_the_names_on_the_hub(name: str, split: str | None) -> None:
    assert split_of(name) == split


def read(source: ParquetSource) -> list[Photo]:
    return [photo for chunk in source.chunks() for photo in pickle.loads(pickle.dumps(chunk))()]


def write(path: Path, *args: Any, row_group_size: int | None = None, **keywords: Any) -> Path:
    pq.write_table(table(*args, **keywords), path, row_group_size=row_group_size)
    return path


def test_rows_without_a_label_are_counted_and_spellings_are_one_class(tmp_path: Path) -> None:
    first = write(tmp_path / "1.parquet", [JPEG] * 4, ["Blue Jay", "BLUE JAY", None, "BLUE JAY"])
    second = write(tmp_path / "2.parquet", [PNG] * 3, [-1, 0, None], ["blue  jay"])
    source = ParquetSource([(first, None), (second, None)])
    assert [(photo.key, photo.label) for photo in read(source)] == [
        ("BLUE JAY/000000.jpg", "BLUE JAY"),
        ("BLUE JAY/000001.jpg", "BLUE JAY"),
        ("BLUE JAY/000003.jpg", "BLUE JAY"),
        ("BLUE JAY/000005.png", "BLUE JAY"),
    ]
    assert len(source) == 4
    assert source.about["unlabelled"] == 3
    assert source.about["merged_classes"] == {"BLUE JAY": ["BLUE JAY", "Blue Jay", "blue  jay"]}


def test_a_row_without_an_image_is_an_empty_photo_that_the_check_refuses(tmp_path: Path) -> None:
    path = write(tmp_path / "1.parquet", [None, JPEG], ["JAY", "JAY"], named="x.webp")
    assert [(photo.key, photo.data) for photo in read(ParquetSource([(path, "train")]))] == [
        ("train/JAY/000000", b""),
        ("train/JAY/000001.webp", JPEG),
    ]


@pytest.mark.parametrize("row_group_size", [7, 100, 1000])
def test_row_groups_of_any_size_are_read_a_few_megabytes_at_a_time(tmp_path: Path, row_group_size: int) -> None:
    images = [number.to_bytes(4, "big") * 100_000 for number in range(150)]
    path = write(tmp_path / "1.parquet", images, ["JAY"] * 150, row_group_size=row_group_size)
    chunks = [chunk() for chunk in ParquetSource([(path, None)]).chunks()]
    assert [photo.data for photos in chunks for photo in photos] == images
    assert max(sum(len(photo.data) for photo in photos) for photos in chunks) <= 8 * 1024**2


def test_an_image_that_many_rows_share_is_not_held_once_per_row(tmp_path: Path) -> None:
    path, image = tmp_path / "1.parquet", os.urandom(15_000_000)
    pq.write_table(table([image] * 100, ["JAY"] * 100), path, dictionary_pagesize_limit=10**9)
    assert path.stat().st_size < 16_000_000
    before = pa.total_allocated_bytes()
    for images in _read_images(path, "image", "data.path", 10**8):
        assert pa.total_allocated_bytes() - before < 10 * len(image)
        assert len(images) <= 4


def test_a_class_name_longer_than_a_folder_may_have_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "1.parquet", [JPEG] * 2000, ["JAY" * 30_000] * 2000)
    with pytest.raises(DataError, match=r"a class name has 90,000 bytes \(JAYJAY.*\.\.\.\); takes at most 255"):
        ParquetSource([(path, None)])


def test_columns_without_metadata_are_found_by_their_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "species": ["JAY"], "photo": [JPEG]}), tmp_path / "1.parquet")
    assert read(ParquetSource([(tmp_path / "1.parquet", None)])) == [Photo("JAY/000000.jpg", "JAY", None, JPEG)]


def test_a_file_without_images_or_a_truncated_one_is_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"species": ["JAY"]}), tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes(write(tmp_path / "3.parquet", [JPEG], ["JAY"]).read_bytes()[:-9])
    for name, message in (("1.parquet", "has no image column"), ("2.parquet", "not a complete parquet file")):
        with pytest.raises(DataError, match=message) as error:
            ParquetSource([(tmp_path / name, None)])
        assert "\n" not in str(error.value)


def test_an_image_over_data_max_bytes_is_refused_and_not_copied(tmp_path: Path) -> None:
    path = write(tmp_path / "1.parquet", [JPEG, JPEG + bytes(10_000)], ["JAY", "JAY"], named="x.jpg")
    small, large = read(ParquetSource([(path, None)], max_bytes=10_000))
    assert (small.data, small.problem) == (JPEG, "")
    assert (large.key, large.data) == ("JAY/000001.jpg", b"")
    assert large.problem == f"too large ({len(JPEG) + 10_000:,} bytes; data.max_bytes takes at most 10,000)"


@pytest.mark.parametrize("rows", [[bytes(40_000_000)], [bytes(1_000_000)] * 60])
def test_a_file_that_grows_like_a_bomb_is_refused(tmp_path: Path, rows: list[bytes]) -> None:
    path = tmp_path / "1.parquet"
    pq.write_table(
        pa.table({"image": rows, "label": ["JAY"] * len(rows)}),
        path,
        compression="zstd",
        dictionary_pagesize_limit=10**8,
    )
    with pytest.raises(DataError, match="unpacks to over 100 times its size .* like a bomb"):
        read(ParquetSource([(path, None)]))
