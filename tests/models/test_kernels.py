"""The loops in C compute what torch does, closer to the exact result; where they can't be had, torch does it."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage.models import create_model, kernels

needs_them = pytest.mark.skipif(
    kernels.compiled() is None, reason="no C compiler, or not Linux: torch's operations are used"
)
ACTIVATIONS = {"none": lambda x: x, "silu": F.silu, "relu6": F.relu6}
CHANNELS_LAST = torch.channels_last


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def gradients(outputs: Tensor, wanted: Tensor, *inputs: Tensor | None) -> list[Tensor]:
    return [outputs.detach(), *torch.autograd.grad((outputs * wanted).sum(), [x for x in inputs if x is not None])]


def assert_near(got: list[Tensor], exact: list[Tensor]) -> None:
    for one, other in zip(got, exact, strict=True):
        error = (one.double() - other.double()).norm() / other.double().norm().clamp(min=1)
        assert error < 1e-5


@needs_them
@pytest.mark.parametrize("shape", [(9, 3, 1, 1), (3, 8, 5, 7), (5, 40, 16, 16), (2, 1152, 7, 7)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_batch_norm_with_its_activation(activation: str, shape: tuple[int, ...]) -> None:
    exact = nn.BatchNorm2d(shape[1]).double()
    nn.init.uniform_(exact.weight, -1, 2)
    nn.init.normal_(exact.bias, std=2)
    ours = copy.deepcopy(exact).float()
    x, wanted = torch.randn(shape, dtype=torch.float64) * 3 + 50, torch.randn(shape, dtype=torch.float64)
    one, other = x.float().requires_grad_(), x.float().double().requires_grad_()
    made = kernels.norm_act(one, ours, activation)
    expected = ACTIVATIONS[activation](exact(other))
    if activation == "relu6":  # at the bends either slope is right
        wanted[((expected.abs() < 1e-3) | ((expected - 6).abs() < 1e-3)) & (expected.detach() != 0)] = 0
    assert_near(
        gradients(made, wanted.float(), one, ours.weight, ours.bias),
        gradients(expected, wanted, other, exact.weight, exact.bias),
    )
    assert_near(list(ours.buffers()), list(exact.buffers()))


@needs_them
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_depthwise_convolution(kernel: int, stride: int, biased: bool) -> None:
    for height, width, channels in ((1, 1, 16), (2, 3, 16), (7, 7, 48), (14, 15, 16), (31, 9, 32)):
        for padding in ((kernel // 2, kernel // 2), (kernel // 2 - 1, kernel // 2)):  # SAME's, too
            if min(height + 2 * padding[0], width + 2 * padding[1]) < kernel:
                continue
            x = torch.randn(3, channels, height, width, dtype=torch.float64, requires_grad=True)
            weight = torch.randn(channels, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
            bias = torch.randn(channels, dtype=torch.float64, requires_grad=True) if biased else None
            expected = F.conv2d(x, weight, bias, stride, padding, 1, channels)
            wanted = torch.randn_like(expected)
            mine = [
                None if tensor is None else tensor.detach().float().requires_grad_() for tensor in (x, weight, bias)
            ]
            made = kernels.depthwise(*mine, stride, padding)  # type: ignore[arg-type]
            assert_near(gradients(made, wanted.float(), *mine), gradients(expected, wanted, x, weight, bias))


@needs_them
@pytest.mark.parametrize("size", [1, 9])
def test_squeeze_and_excitation(size: int) -> None:
    exact = [nn.Conv2d(24, 5, 1).double(), nn.Conv2d(5, 24, 1).double()]
    ours = [copy.deepcopy(layer).float() for layer in exact]
    x = torch.randn(3, 24, size, size, dtype=torch.float64, requires_grad=True)
    mine = x.detach().float().requires_grad_()
    expected = x * exact[1](F.silu(exact[0](x.mean((2, 3), keepdim=True)))).sigmoid()
    wanted = torch.randn_like(expected)
    got = gradients(
        kernels.excite(mine, *ours), wanted.float(), mine, *(p for layer in ours for p in layer.parameters())
    )
    assert_near(got, gradients(expected, wanted, x, *(p for layer in exact for p in layer.parameters())))


def step(model: nn.Module) -> list[Tensor]:
    model = copy.deepcopy(model).train()
    photos = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1)).to(memory_format=CHANNELS_LAST)
    F.cross_entropy(model(photos), torch.arange(6)).backward()
    return [parameter.grad for parameter in model.parameters()] + list(model.buffers())  # type: ignore[misc]


@needs_them
def test_a_step_is_the_one_without_them_and_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("efficientnet_b0", 10, dropout=0.0, drop_path=0.0).to(memory_format=CHANNELS_LAST)
    ours, again = step(model), step(model)
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    theirs = step(model)
    assert not all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True)), "both were torch's"
    largest = max(tensor.abs().max() for tensor in theirs[: len(list(model.parameters()))])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=float(largest) * 1e-4)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_under_autocast_torch_does_it(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    """There, what the network is given is float32 and what it makes of it is not."""
    model = create_model("efficientnet_b0", 10, dropout=0.0, drop_path=0.0).to(memory_format=CHANNELS_LAST)
    photos = torch.randn(6, 3, 64, 64).to(memory_format=CHANNELS_LAST)

    def results() -> list[Tensor]:
        network = copy.deepcopy(model).train(training)
        with torch.set_grad_enabled(training), torch.autocast("cpu", torch.bfloat16):
            logits = network(photos)
        if training:
            logits.float().sum().backward()
        return [logits, *(parameter.grad for parameter in network.parameters() if parameter.grad is not None)]

    got = results()
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    expected = results()
    assert len(got) == len(expected) and all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


@needs_them
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_no_number_stays_none(activation: str) -> None:
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    scale = torch.tensor([1.0, float("nan"), 1.0])
    with torch.no_grad():
        y = kernels.affine_act_(x.clone(), scale, scale, activation)
    assert torch.isnan(y[:, 1]).all() and torch.isfinite(y[:, ::2]).all()


COMPILED = """
import os, sys
from plumage.models import kernels
print(kernels.compiled() is not None, sorted(os.listdir(sys.argv[1])) if os.path.isdir(sys.argv[1]) else [])
"""


def in_a_process(home: Path, **environment: str) -> str:
    variables = {
        **os.environ,
        "XDG_CACHE_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **environment,
    }
    command = [sys.executable, "-c", COMPILED, str(home / "plumage")]
    return subprocess.run(command, env=variables, text=True, check=True, capture_output=True).stdout


@needs_them
def test_they_are_compiled_once_and_nothing_else_is_left(tmp_path: Path) -> None:
    first = in_a_process(tmp_path)
    assert first.startswith("True ['kernels-") and first.count("kernels-") == 1
    [file] = (tmp_path / "plumage").iterdir()
    made = file.stat().st_mtime_ns
    assert in_a_process(tmp_path) == first and file.stat().st_mtime_ns == made


def test_without_a_compiler_or_a_place_torch_does_it(tmp_path: Path) -> None:
    assert in_a_process(tmp_path, CC=shutil.which("false") or "false") == "False []\n"
    (tmp_path / "file").touch()
    assert in_a_process(tmp_path / "file").startswith("False")
