"""The kernels of a training step compute what torch does, closer to the exact result; without them, torch does it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from kernel_checks import ACTIVATIONS, assert_near, both, gradients, map_of, norms
from support import needs_kernels
from torch import Tensor, nn

from plumage.accelerate import kernels
from plumage.accelerate.kernels.depthwise import Geometry, expand_depthwise, norm_act_depthwise
from plumage.accelerate.kernels.dispatch import call
from plumage.accelerate.kernels.excite import excite, norm_act_excite, norm_act_excite_project
from plumage.accelerate.kernels.training import norm_act
from plumage.accelerate.layers import accelerate
from plumage.models import create_model

CHANNELS_LAST = torch.channels_last


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@needs_kernels
@pytest.mark.parametrize("shape", [(9, 3, 1, 1), (3, 8, 5, 7), (5, 40, 16, 16), (2, 1152, 7, 7)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@both
def test_batch_norm_with_its_activation(dtype: torch.dtype, activation: str, shape: tuple[int, ...]) -> None:
    exact = nn.BatchNorm2d(shape[1]).double()
    nn.init.uniform_(exact.weight, -1, 2)
    nn.init.normal_(exact.bias, std=2)
    ours = copy.deepcopy(exact).float()
    x, wanted = torch.randn(shape, dtype=torch.float64) * 3 + 50, torch.randn(shape, dtype=torch.float64)
    one, other, wanted = x.to(dtype).requires_grad_(), x.to(dtype).double().requires_grad_(), wanted.to(dtype).double()
    made = norm_act(one, ours, activation)
    expected = ACTIVATIONS[activation](exact(other))
    if activation == "relu6":  # at the kinks either slope is right
        wanted[((expected.abs() < 1e-3) | ((expected - 6).abs() < 1e-3)) & (expected.detach() != 0)] = 0
    assert_near(
        gradients(made, wanted.to(dtype), one, ours.weight, ours.bias),
        gradients(expected, wanted, other, exact.weight, exact.bias),
        dtype,
    )
    assert_near(list(ours.buffers()), list(exact.buffers()))


@needs_kernels
@pytest.mark.parametrize("size", [1, 9])
@both
def test_squeeze_and_excitation(dtype: torch.dtype, size: int) -> None:
    exact = [nn.Conv2d(24, 5, 1).double(), nn.Conv2d(5, 24, 1).double()]
    ours = [copy.deepcopy(layer).float() for layer in exact]
    x = torch.randn(3, 24, size, size).to(dtype).double().requires_grad_()
    mine = x.detach().to(dtype).requires_grad_()
    expected = x * exact[1](F.silu(exact[0](x.mean((2, 3), keepdim=True)))).sigmoid()
    wanted = torch.randn_like(expected).to(dtype).double()
    got = gradients(excite(mine, *ours), wanted.to(dtype), mine, *(p for layer in ours for p in layer.parameters()))
    assert_near(got, gradients(expected, wanted, x, *(p for layer in exact for p in layer.parameters())), dtype)


@needs_kernels
@pytest.mark.parametrize("size", [1, 9])
@pytest.mark.parametrize("activation", ["silu", "none"])
@both
def test_batch_norm_and_activation_with_squeeze_and_excitation(dtype: torch.dtype, activation: str, size: int) -> None:
    (exact, ours), (x, mine) = norms(40), map_of((5, 40, size, size), dtype)
    layers = [nn.Conv2d(40, 5, 1).double(), nn.Conv2d(5, 40, 1).double()]
    our_layers = [copy.deepcopy(layer).float() for layer in layers]
    activated = ACTIVATIONS[activation](exact(x))
    expected = activated * layers[1](F.silu(layers[0](activated.mean((2, 3), keepdim=True)))).sigmoid()
    wanted = torch.randn_like(expected).to(dtype).double()
    made = norm_act_excite(mine, ours, activation, *our_layers)  # type: ignore[arg-type]
    parameters = [*ours.parameters(), *(p for layer in our_layers for p in layer.parameters())]
    exact_parameters = [*exact.parameters(), *(p for layer in layers for p in layer.parameters())]
    assert_near(
        gradients(made, wanted.to(dtype), mine, *parameters),
        gradients(expected, wanted, x, *exact_parameters),
        dtype,
    )
    assert_near(list(ours.buffers()), list(exact.buffers()))


@needs_kernels
@pytest.mark.parametrize("shape", [(5, 32, 1, 1), (3, 48, 9, 9), (2, 16, 31, 5)], ids=str)
@pytest.mark.parametrize("outputs", [5, 16, 40])
@both
def test_squeeze_and_excitation_with_a_pointwise_convolution(
    dtype: torch.dtype, outputs: int, shape: tuple[int, ...]
) -> None:
    channels = shape[1]
    for activation in ("silu", "none"):
        (exact, ours), (x, mine) = norms(channels), map_of(shape, dtype)
        layers = [nn.Conv2d(channels, 5, 1).double(), nn.Conv2d(5, channels, 1).double()]
        our_layers = [copy.deepcopy(layer).float() for layer in layers]
        project = torch.randn(outputs, channels, requires_grad=True)
        exact_project = project.detach().double().requires_grad_()
        activated = ACTIVATIONS[activation](exact(x))
        excited = activated * layers[1](F.silu(layers[0](activated.mean((2, 3), keepdim=True)))).sigmoid()
        expected = F.conv2d(excited, exact_project[:, :, None, None])
        wanted = torch.randn_like(expected).to(dtype).double()
        made = norm_act_excite_project(mine, ours, activation, *our_layers, project)  # type: ignore[arg-type]
        parameters = [project, *ours.parameters(), *(p for layer in our_layers for p in layer.parameters())]
        exact_parameters = [exact_project, *exact.parameters(), *(p for layer in layers for p in layer.parameters())]
        assert_near(
            gradients(made, wanted.to(dtype), mine, *parameters),
            gradients(expected, wanted, x, *exact_parameters),
            dtype,
        )
        assert_near(list(ours.buffers()), list(exact.buffers()))


@needs_kernels
@pytest.mark.parametrize("activation", ["silu", "relu6"])
def test_activations_of_extreme_values(activation: str) -> None:
    """Without an overflow, and what isn't a number stays so."""
    x = torch.tensor([-1e30, -1e4, -88.0, -87.0, -1e-30, 0.0, 1e-30, 87.0, 88.0, 1e4, 1e30])
    made = activations_of(x, activation)
    torch.testing.assert_close(made, ACTIVATIONS[activation](x), rtol=1e-6, atol=1e-7)
    assert activations_of(torch.tensor([torch.nan]), activation).isnan().all()


def activations_of(x: Tensor, activation: str) -> Tensor:
    """What the kernel makes of `x` with a scale of 1 and a shift of 0."""
    y, unchanged = torch.empty_like(x), torch.tensor([1.0, 0.0, 0.0, 1.0])
    call("norm_act", x, y, len(x), 1, unchanged, kernels.ACTIVATIONS[activation], 1)  # type: ignore[index]
    return y


@needs_kernels
def test_the_number_of_threads_changes_nothing_but_rounding() -> None:
    """Of the kernels that share a photo's channels among threads."""
    norm, weight = nn.BatchNorm2d(144), torch.randn(144, 1, 5, 5, requires_grad=True)
    layers = nn.Conv2d(144, 6, 1), nn.Conv2d(6, 144, 1)
    expand, geometry = torch.randn(144, 144, requires_grad=True), Geometry(1, (2, 2), (14, 14))

    def results(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        x = torch.randn(3, 144, 14, 14, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y, _ = norm_act_depthwise(x, norm, "silu", weight, geometry)
        z, _ = expand_depthwise(x, expand, norm, "silu", weight, geometry)
        z = z + norm_act_excite(x, norm, "silu", *layers)
        z = z + norm_act_excite_project(x, norm, "silu", *layers, expand)
        return [y.detach(), *torch.autograd.grad((y.square() + z.square()).sum(), [x, weight, norm.weight, expand])]

    before = torch.get_num_threads()
    try:
        first = results(1)
        for threads in (2, 7):
            assert_near(results(threads), first)
    finally:
        torch.set_num_threads(before)


def step(model: nn.Module) -> list[Tensor]:
    model = accelerate(copy.deepcopy(model)).train()
    photos = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1)).to(memory_format=CHANNELS_LAST)
    F.cross_entropy(model(photos), torch.arange(6)).backward()
    return [parameter.grad for parameter in model.parameters()] + list(model.buffers())  # type: ignore[misc]


@needs_kernels
def test_a_step_equals_the_one_without_kernels_and_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("efficientnet_b0", 10, drop_rate=0.0, drop_path_rate=0.0).to(memory_format=CHANNELS_LAST)
    ours, again = step(model), step(model)
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))
    monkeypatch.setattr(kernels, "compiled", lambda *_: None)
    theirs = step(model)
    assert not all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True)), "both were torch's"
    largest = max(tensor.abs().max() for tensor in theirs[: len(list(model.parameters()))])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=float(largest) * 1e-4)


@needs_kernels
def test_a_step_under_autocast_is_as_exact_as_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("efficientnet_b0", 10, drop_rate=0.0, drop_path_rate=0.0).to(memory_format=CHANNELS_LAST)
    exact = step(model)

    def error() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            got = step(model)
        off, size = (sum(float(t.double().square().sum()) for t in tensors) for tensors in (
            [one - other for one, other in zip(got, exact, strict=True)], exact))  # fmt: skip
        return (off / size) ** 0.5

    ours = error()
    monkeypatch.setattr(kernels, "compiled", lambda *_: None)
    theirs = error()
    assert ours != theirs, "both were torch's"
    assert ours < 1.2 * theirs
