"""Passwords, tokens and signatures are hidden in text, wherever they stand; and found in files."""

import secrets
import string
from collections.abc import Callable

import pytest

from plumage.common.redaction import find_secret, redacted

SECRETS = [
    "https://me:hunter2@host/birds.zip",
    "https://hunter2@host/birds.zip",
    "https://me:hun/ter2@hunter2@host/birds.zip",
    "https://me:hunter2'\"#@host/birds.zip",
    "postgresql+psycopg2://bird:hunter2@db.example.org:5432/mlflow?sslmode=require&password=hunter2",
    "https://host/birds.zip?token=hunter2&download=1",
    "https://host/birds.zip?t=hunter2",
    "https://host/birds.zip?hunter2",
    "https://host/birds.zip#access_token=hunter2",
    "https://a.blob.core.windows.net/c/b.zip?sv=2022-11-02&sr=b&sig=hunter2%2F%3D",
    "https://b.s3.amazonaws.com/b.zip?X-Amz-Signature=hunter2&X-Amz-Credential=hunter2%2Fs3&X-Amz-Security-Token=hunter2",
    "Max retries exceeded with url: /api?max_results=1&private_token=hunter2 (Caused by",
    "x-access-token:hunter2@github.com:birds/birds.git",
    "https://x-access-token:hunter2@github.com/birds/birds.git",
    "Authorization: Basic hunter2==",
    "{'Authorization': 'Bearer hunter2'}",
    "Proxy-Authorization: Digest username=me, response=hunter2",
    "Set-Cookie: session=hunter2; Path=/",
    "answers Bearer hunter2hunter2",
    "DefaultEndpointsProtocol=https;AccountName=birds;AccountKey=hunter2==;EndpointSuffix=core.windows.net",
    "aws_secret_access_key = hunter2",
    'password: "hunter2 50%"',
    "# password: hunter2",
    "mlflow --api-token hunter2",
    "curl -u me:hunter2 https://host/birds.zip",
    "curl --fail --user=me:hunter2 https://host/birds.zip",
    "machine host login me password hunter2",
    "ghp_hunter2hunter2hunter2hunter2hunter2",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----",
]


MISTYPED = [
    "me:hunter2@host/birds.zip",
    "//me:hunter2@host/birds.zip",
    "http:/me:hunter2@host/birds.zip",
    "http:me:hunter2@[::1]/birds.zip",
]


@pytest.mark.parametrize("text", SECRETS + MISTYPED)
def test_a_secret_in_text_is_hidden(text: str) -> None:
    assert "hunter2" not in redacted(f"the server says: {text}") and "***" in redacted(text)
    assert redacted(redacted(text)) == redacted(text)


def test_what_is_no_secret_stays() -> None:
    for text in (
        "https://zenodo.org/records/1/files/birds.zip?download=1",
        "http://127.0.0.1:5000/#/experiments/1/runs",
        "http://127.0.0.1:5000/a@b",
        "git@github.com:birds/birds.git",
        "A Bird <bird@example.org>, mailto:bird@example.org",
        "the MLflow store sqlite:////home/bird/mlflow.db: the disk is full",
        "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        "Kaggle denies access (403); set KAGGLE_API_TOKEN",
        "the server needs Basic authentication",
        "Secretarybird: 12345678 photos",
    ):
        assert redacted(text) == text
    assert redacted("got 'https://me:hunter2@host/x'; takes a zip") == "got 'https://***@host/x'; takes a zip"


def test_the_secrets_of_the_environment_are_hidden_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIRD_API_KEY", "a long/one")
    monkeypatch.setenv("BIRD_TOKEN", "short")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", __file__)
    assert redacted("a long/one, a%20long%2Fone, short") == "***, ***, short"
    assert redacted(f"{__file__}: no such file") == f"{__file__}: no such file"


@pytest.mark.parametrize("text", [text for text in SECRETS if "?t=" not in text and "?hunter2" not in text])
def test_a_secret_in_a_file_is_found(text: str) -> None:
    found = [find_secret(line) for line in text.replace("https://hunter2@", "https://hunter2hunter2@").splitlines()]
    assert any(found)


@pytest.mark.parametrize(
    "make",
    [
        lambda: secrets.token_urlsafe(18),
        lambda: secrets.token_urlsafe(32),
        lambda: f"s3cret10-{secrets.token_urlsafe(18)}",
        lambda: "".join(secrets.choice(string.ascii_letters) for _ in range(24)),
        lambda: "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(24)),
        lambda: secrets.token_hex(16),
    ],
    ids=["24 of Base64", "43 of Base64", "after a name", "letters", "letters and digits", "hexadecimal"],
)
def test_random_values_are_found(make: Callable[[], str]) -> None:
    assert sum(find_secret(f"x = call('{make()}')", is_code=True) is not None for _ in range(1000)) > 985


def test_names_hashes_and_placeholders_are_not_taken_for_random_values() -> None:
    for line in (
        "numberOfBytesToRead = JavaScriptObjectNotation.HTTPServerRequestHandler",
        "FROM WeightOnlyQuantizedEfficientNetV2Features IMPORT getThreadPriorityOfTheIOWorkers",
        "def test_a_classifier_with_EfficientNetB0_and_2048_features_is_accurate(self) -> None:",
        "from plumage.data.sources.huggingface import HuggingfaceDataset2Source",
        "- md5: 7670babb1e464f2f52246195e9647d20.dir",
        "sha256: 7670babb1e464f2f52246195e9647d207670babb1e464f2f52246195e9647d20",
        "@@ -0,0 +1 @@",
        "password = os.environ['BIRD_PASSWORD']",
        "token: str | None = None",
        'password = "${BIRD_PASSWORD}"',
        "url = 'https://USER:PASSWORD@HOST'",
        "url: https://zenodo.org/records/1/files/birds.zip?download=1",
    ):
        assert find_secret(line, is_code=True) is None, line


@pytest.mark.parametrize(
    "part",
    [
        "a",
        "a://",
        "a://b:",
        "a:b@",
        "&token=",
        "token",
        "token:",
        "secret: ",
        " --token",
        "curl -u ",
        "login a ",
        "-",
        "'",
        "a=",
    ],
)
def test_hostile_text_of_any_length_is_read_once(part: str) -> None:
    """A pattern that goes back over what it has read would take hours here."""
    text = part * (50_000 // len(part))
    assert len(redacted(text)) < 2 * len(text)
    find_secret(text)
    find_secret(text, is_code=True)
