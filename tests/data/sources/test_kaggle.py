"""Kaggle data sets, fetched by the real kagglehub from a stand-in for the site."""

import base64
import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kagglehub import clients
from kagglesdk import kaggle_env
from stand_ins import Request, StandIn, closed_port, serve
from support import make_photo

from plumage.common import pace
from plumage.data.sources import retry
from plumage.data.sources.kaggle import kaggle_source
from plumage.data.sources.photo import Photo
from plumage.errors import DataError

PHOTOS = {
    f"{split}/{label}/{number}.jpg": make_photo((90, 60 * number, 200), number)
    for split in ("train", "valid", "test")
    for label in ("BLUE JAY", "ORIOLE")
    for number in range(3)
}
VARIABLES = ("KAGGLE_API_ENVIRONMENT", "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE")


def pack(photos: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in {**photos, "birds.csv": b"class,path"}.items():
            archive.writestr(name, data)
    return packed.getvalue()


class Kaggle(StandIn):
    """Has one data set, me/birds, in one version; a redirect leads to its archive, as to Google's storage."""

    def __init__(self) -> None:
        super().__init__()
        self.archive = pack(PHOTOS)
        self.md5: str | None = base64.b64encode(hashlib.md5(self.archive).digest()).decode()
        self.version = 2
        self.denied = 0

    def answer(self, request: Request, path: str, body: dict[str, Any]) -> None:
        if path == "/storage/archive.zip":
            request.send_file(self.archive, {"x-goog-hash": f"crc32c=n03x6A==,md5={self.md5}"} if self.md5 else {})
        elif self.denied:
            request.send_json({"code": self.denied, "message": "Permission denied\non this"}, self.denied)
        elif (body.get("ownerSlug"), body.get("datasetSlug")) != ("me", "birds"):
            request.send_json({"code": 404, "message": "Dataset not found"}, 404)
        elif path == "/v1/datasets.DatasetApiService/GetDataset":
            request.send_json({"ref": "me/birds", "currentVersionNumber": self.version})
        elif path == "/v1/datasets.DatasetApiService/DownloadDataset":
            request.send(b"", 302, {"Location": f"{self.url}/storage/archive.zip"})

    def downloads(self) -> list[str]:
        return [seen.range for seen in self.seen if seen.path == "/storage/archive.zip"]


@pytest.fixture(autouse=True)
def own_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's credentials and cache."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home" / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(clients, "CHUNK_SIZE", 1000)


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    with serve(Kaggle()) as stand_in:
        point_at(stand_in.url, monkeypatch)
        yield stand_in


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # KAGGLE_API_ENVIRONMENT knows only ports that may be taken, and a mode that reads archives into memory first.
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, url)


def photos_of(dataset: str) -> list[Photo]:
    return [photo for chunk in kaggle_source(dataset).chunks() for photo in chunk()]


def refusal(dataset: str) -> str:
    with pytest.raises(DataError) as error:
        kaggle_source(dataset)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_photos_have_their_labels_and_splits_and_the_report_names_the_version(kaggle: Kaggle) -> None:
    source = kaggle_source("me/birds")
    photos = [photo for chunk in source.chunks() for photo in chunk()]
    assert {photo.key: photo.data for photo in photos} == PHOTOS
    assert {(photo.key.split("/")[0], photo.split) for photo in photos} == {
        ("train", "train"),
        ("valid", "val"),
        ("test", "test"),
    }
    assert (source.about["dataset"], source.about["version"]) == ("me/birds", 2)
    assert source.about["passed_over"] == {".csv": 1}


def test_a_cached_data_set_is_not_fetched_again_and_a_version_needs_no_network(
    kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert photos_of("me/birds") == photos_of("me/birds")
    assert len(kaggle.downloads()) == 1
    point_at(f"http://127.0.0.1:{closed_port()}", monkeypatch)
    assert len(photos_of("me/birds/versions/2")) == len(PHOTOS)


def test_a_dropped_download_resumes(kaggle: Kaggle) -> None:
    kaggle.drops = [5000, 10**9, 3000]  # kagglehub first requests the whole file without reading it, then the rest
    assert len(photos_of("me/birds")) == len(PHOTOS)
    assert "bytes=5000-" in kaggle.downloads()
    assert "bytes=8000-" in kaggle.downloads()


def test_a_download_that_always_drops_is_one_line_and_the_next_run_resumes(kaggle: Kaggle) -> None:
    kaggle.drops = [5000] + [0] * 50
    assert "dropped" in refusal("me/birds")
    kaggle.drops = []
    kaggle.seen.clear()
    assert len(photos_of("me/birds")) == len(PHOTOS)
    assert "bytes=5000-" in kaggle.downloads()


def test_a_site_that_hardly_sends_is_given_up_in_one_line(kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(pace, "BYTES_PER_SECOND", 10**6)
    kaggle.throttle = 1.0
    before = set(threading.enumerate())
    line = refusal("me/birds")
    assert re.fullmatch(r"data.dataset: me/birds: (only [\d,]+ bytes|no data) for 0.3 s; run it again .*", line)
    kaggle.throttle = 0.0
    for left in set(threading.enumerate()) - before:  # kagglehub's, which would disturb the next test
        left.join()


@pytest.mark.parametrize("has_checksum", [True, False])
def test_a_truncated_archive_is_fetched_again(kaggle: Kaggle, has_checksum: bool) -> None:
    complete = kaggle.archive
    kaggle.md5 = kaggle.md5 if has_checksum else None
    kaggle.archive = complete[:-3000]
    assert ("checksum" if has_checksum else "not a complete archive") in refusal("me/birds")
    kaggle.archive = complete
    assert len(photos_of("me/birds")) == len(PHOTOS)


def test_a_busy_site_is_retried(kaggle: Kaggle) -> None:
    kaggle.statuses = [503, 429]
    assert len(photos_of("me/birds")) == len(PHOTOS)
    kaggle.statuses = [500] * 50
    assert "Kaggle answers 500" in refusal("me/birds")


def test_the_error_for_a_removed_data_set_says_what_to_do(kaggle: Kaggle) -> None:
    assert "me/fish" in refusal("me/fish")
    message = refusal("gpiosenka/100-bird-species")
    assert "the default, gpiosenka/100-bird-species, may have been removed" in message
    assert "name another with data.dataset" in message
    assert len(kaggle.seen) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_the_error_for_denied_access_says_how_to_get_it(kaggle: Kaggle, status: int) -> None:
    kaggle.denied = status
    message = refusal("me/birds")
    assert all(name in message for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "kaggle.json"))


def test_credentials_are_used_and_a_broken_credentials_file_is_named(
    kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "home" / ".kaggle" / "kaggle.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert str(file) in refusal("me/birds")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    assert len(photos_of("me/birds")) == len(PHOTOS)
    assert kaggle.seen[0].credentials == "Bearer secret"


def test_without_a_connection_the_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(f"http://localhost:{closed_port()}", monkeypatch)
    assert "no connection to localhost" in refusal("me/birds")
