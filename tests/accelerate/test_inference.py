"""A network compiled for inference gives the logits that it gives in eval mode."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from plumage.accelerate import kernels
from plumage.accelerate.engine import Engine
from plumage.accelerate.inference import _folded_forward, compile_for_inference
from plumage.accelerate.kernels.dispatch import dtype_of
from plumage.accelerate.layers import accelerate
from plumage.models import create_model
from plumage.models.efficientnet import EfficientNet


def network(name: str) -> EfficientNet:
    """In eval mode, with statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    model = create_model(name, 10, "imagenet" if name == "efficientnet_lite0" else None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and name != "efficientnet_lite0":
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0, 0.3)  # type: ignore[arg-type]
            nn.init.normal_(module.bias, 0, 0.3)
    return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


# B4 repeats blocks that do not expand, B3's first ones have 40 channels, Lite0's weights pad as TensorFlow does.
@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b3", "efficientnet_b4", "efficientnet_lite0"])
@pytest.mark.parametrize("size", [(64, 64), (75, 50)], ids=str)
def test_logits_and_features_are_those_of_the_network(name: str, size: tuple[int, int]) -> None:
    model, photos = network(name), torch.randn(11, 3, *size)
    with torch.no_grad():
        logits, features = model(photos), model.forward_head(model.forward_features(photos), pre_logits=True)
    got = compile_for_inference(model)(photos)
    torch.testing.assert_close(got, logits, rtol=1e-4, atol=1e-5 * float(logits.abs().max()))
    torch.testing.assert_close(
        compile_for_inference(model, pre_logits=True)(photos),
        features,
        rtol=1e-4,
        atol=1e-5 * float(features.abs().max()),
    )
    with torch.inference_mode():
        rounded = _folded_forward(model, torch.bfloat16, pre_logits=False)(photos)  # as on a GPU
    assert rounded.dtype == torch.float32
    assert (rounded - logits).norm() < 0.05 * logits.norm()
    assert torch.equal(compile_for_inference(model, "bf16")(photos), got)


def test_a_photo_has_the_same_bytes_alone_among_others_and_on_any_number_of_threads() -> None:
    model, photos = network("efficientnet_b0"), torch.randn(5, 3, 64, 64)
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    together = Engine(model.config, tensors, 1).logits(photos.numpy())
    for threads in (1, 2, 3):
        engine = Engine(model.config, tensors, threads)
        np.testing.assert_array_equal(engine.logits(photos.numpy()), together)
        np.testing.assert_array_equal(
            np.concatenate([engine.logits(photo[None].numpy()) for photo in photos]), together
        )


def test_without_a_classifier_the_features_come_out() -> None:
    model = create_model("efficientnet_lite0", 0, "imagenet").eval()
    photos = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(compile_for_inference(model)(photos), model(photos).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0"])
def test_nan_stays_nan(name: str) -> None:
    model = network(name)
    with torch.no_grad():
        model.stem.norm.bias[3] = float("nan")
    assert torch.isnan(compile_for_inference(model)(torch.randn(2, 3, 32, 32))).all()


def test_onnx_runtime_leaves_no_identifier_in_the_home_folder_and_prints_nothing(tmp_path: Path) -> None:
    """As it would for its reports to Microsoft."""
    code = "from plumage.accelerate.engine import onnxruntime; onnxruntime.SessionOptions()"
    variables = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "CI"):
        variables.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert not (tmp_path / ".cache/Microsoft").exists()


def test_later_weights_change_nothing() -> None:
    model, photos = network("efficientnet_b0"), torch.randn(2, 3, 32, 32)
    forward = compile_for_inference(model)
    expected = compile_for_inference(model)(photos)
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    assert torch.equal(forward(photos), expected)


def test_neither_inputs_nor_network_are_changed() -> None:
    model, photos = network("efficientnet_b0"), torch.randn(3, 3, 64, 64)
    before, seen = copy.deepcopy(model.state_dict()), photos.clone()
    compile_for_inference(model)(photos)
    assert torch.equal(photos, seen)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_another_network_gives_what_it_gives_by_itself() -> None:
    other, inputs = nn.Linear(4, 2), torch.randn(9, 4)

    with torch.no_grad():
        torch.testing.assert_close(compile_for_inference(other)(inputs), other(inputs))


def test_an_accelerated_network_gives_the_same_bytes() -> None:
    model, photos = network("efficientnet_b0"), torch.randn(3, 3, 64, 64)
    plain = compile_for_inference(model)(photos)
    assert torch.equal(compile_for_inference(accelerate(model))(photos), plain)


def test_not_accelerated_is_the_network_itself_on_the_whole_batch() -> None:
    model, photos = network("efficientnet_b0"), torch.randn(9, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(compile_for_inference(model, accelerate=False)(photos), model(photos))
        pooled = model.forward_head(model.forward_features(photos), pre_logits=True)
    assert torch.equal(compile_for_inference(model, pre_logits=True, accelerate=False)(photos), pooled)


@pytest.mark.skipif(kernels.compiled() is None, reason="there is no compiler")
@pytest.mark.parametrize(
    ("processor", "faster"),
    [
        ("model name: AMD EPYC 9R14\nflags: avx512f avx512_bf16", True),
        ("model name: AMD EPYC 7R13\nflags: avx2", False),
        ("model name: Intel(R) Xeon(R) Processor\nflags: avx512f avx512_bf16", False),
        ("model name: Intel(R) Xeon(R) Platinum\nflags: avx512_bf16 amx_bf16 amx_tile", True),
        ("Features: asimd bf16", True),
    ],
)
def test_bf16_is_for_processors_on_which_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, processor: str, faster: bool
) -> None:
    monkeypatch.setattr(kernels, "compiled", lambda _: object())
    monkeypatch.setattr(kernels, "_processor", lambda: processor)
    assert kernels.computes_bf16() == faster


def test_off_linux_the_processor_is_unknown_and_auto_precision_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "compiled", lambda _: object())  # the real one keeps its answer
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert not kernels.computes_bf16() and not kernels.is_intel()


def test_auto_precision_is_what_the_processor_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for able, chosen in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(kernels, "computes_bf16", lambda able=able: able)
        assert dtype_of(cpu, "auto") == chosen
    assert dtype_of(cpu, "bf16") == torch.bfloat16 and dtype_of(cpu, "fp32") == torch.float32
