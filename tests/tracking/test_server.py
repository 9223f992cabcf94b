"""A company's MLflow server, behind TLS, a login and a path: whatever MLflow's client reaches works, or fails in one line."""

import base64
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_servers import Gate, Server, self_signed
from registering import NAME, add, hits, make_photos
from stand_ins import closed_port, serve
from support import command_lines, make_photo

from plumage.errors import TrackingError
from plumage.registry.served_model import LIMITS
from plumage.registry.versions import find_version
from plumage.serving import load_predictor
from plumage.tracking.open_run import training_run
from plumage.tracking.store import connect

PASSWORD = "hunter2 50%"
BASIC = "Basic " + base64.b64encode(f"bird:{PASSWORD}".encode()).decode()
TOKEN = "t0ken-of-a-bird"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    there = Server(tmp_path_factory.mktemp("server"))
    there.start()
    yield there
    there.kill()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("certificate") / "server.pem")


@pytest.fixture
def gate(server: Server, certificate: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """In front of the server; takes a password and a token. Only its address and certificate are in the environment."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        for spelled in (name, name.lower()):
            monkeypatch.delenv(spelled, raising=False)
    monkeypatch.setenv("HOME", str(root))  # no ~/.mlflow/credentials and ~/.netrc
    with serve(Gate(server, certificate)) as gate:
        gate.takes = {BASIC, f"Bearer {TOKEN}"}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", gate.url)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        for name in ("USERNAME", "PASSWORD", "TOKEN"):  # so that what Plumage sets is undone, too
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        yield gate


def refusal(root: Path) -> str:
    with pytest.raises(TrackingError) as caught:
        connect(root, "plumage")
    message = str(caught.value)
    assert "\n" not in message and "hunter" not in message
    return message


@pytest.mark.slow
def test_runs_models_and_predictions_go_through_tls_and_a_login(
    gate: Gate, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bird")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    make_photos(root / "dataset")
    assert add(root, 0, hits(60))["aliases"] == ["challenger", "champion"]
    version = find_version(f"models:/{NAME}@champion", root)
    run = MlflowClient().get_run(version.run_id)
    limits = {name: str(limit) for name, limit in LIMITS.items()}  # MLflow adds a model's configuration
    assert (
        run.data.params == {"train.seed": "0", "data.source": "folder", **limits}
        and run.data.metrics["test/accuracy"] == 1.0
    )
    [answer] = load_predictor(f"models:/{NAME}@champion").predict([make_photo((90, 130, 170), 0)])
    assert {name for name, _ in answer} == {"jay", "owl", "wren"}
    assert gate.refused == 0


def test_an_unknown_certificate_is_named_with_the_variable_that_takes_it(
    gate: Gate, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    assert (
        f"{gate.url}: its certificate can't be verified: self-signed certificate; MLFLOW_TRACKING_SERVER_CERT_PATH"
        in (refusal(root))
    )
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "nowhere.pem")
    assert "nowhere.pem" in refusal(root)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("how", ["a token", "in the address", "in a file", "without a check of the certificate"])
def test_each_way_that_mlflow_knows_to_log_in_works(
    how: str, gate: Gate, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = {"MLFLOW_TRACKING_TOKEN": TOKEN}
    if how == "in the address":
        quoted = urllib.parse.quote(PASSWORD)
        login = {"MLFLOW_TRACKING_URI": gate.url.replace("//", f"//bird:{quoted}@") + "/"}
    elif how == "in a file":
        login = {}
        (root / ".mlflow").mkdir()
        secret = PASSWORD.replace("%", "%%")
        lines = f"mlflow_tracking_username = bird\nmlflow_tracking_password = {secret}\n"
        (root / ".mlflow/credentials").write_text(f"[mlflow]\n{lines}")
    elif how == "without a check of the certificate":
        monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
        login |= {"MLFLOW_TRACKING_INSECURE_TLS": "true"}
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    assert connect(root, "plumage").isdigit() and gate.refused == 0


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI"])
def test_a_wrong_password_is_refused_without_showing_it(
    name: str, gate: Gate, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = gate.url.replace("//", "//bird:hunter3@")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bird")
    monkeypatch.setenv(name, address if name == "MLFLOW_TRACKING_URI" else "hunter3")
    message = refusal(root)
    assert f"{gate.url}: HTTP 401" in message and "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN" in message
    assert gate.refused == 1


def test_an_address_without_an_mlflow_server_is_refused(
    gate: Gate, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gate.url.removesuffix("/mlflow"))
    assert "HTTP 404: no MLflow server at this address" in refusal(root)


def test_a_proxy_is_used_as_mlflow_uses_it(gate: Gate, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter3@127.0.0.1:{closed_port()}")
    assert "its proxy can't be reached; check HTTP_PROXY and HTTPS_PROXY" in refusal(root)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert connect(root, "plumage").isdigit()


def test_a_password_in_the_address_is_stored_and_shown_nowhere(
    gate: Gate, server: Server, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    quoted = urllib.parse.quote(PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gate.url.replace("//", f"//bird:{quoted}@"))
    with training_run(root, "plumage", "a key", {"train.lr": 0.1}) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        gate.takes = set()  # the outbox says why it waits
        run.log_epoch(2, {"train/loss": 0.5})
        arguments = [word for words in command_lines().values() for word in words]
        monkeypatch.setattr("plumage.tracking.outbox.CLOSE_SECONDS", 0.5)
    said = "".join(capfd.readouterr())
    assert "MLflow is unreachable" in said
    files = [path.read_bytes() for folder in (root, server.folder) for path in folder.rglob("*") if path.is_file()]
    for secret in (PASSWORD, quoted, BASIC.split()[1]):
        assert not any(secret.encode() in content for content in files)
        assert secret not in said and secret not in " ".join(arguments)
