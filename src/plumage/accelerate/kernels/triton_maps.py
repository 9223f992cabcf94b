"""Batch norm with its activation, and squeeze-and-excitation, in Triton, on channels_last maps: rows (pixels) x C in memory.

Import it only where Triton is installed. Sums are in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, CHANNELS = 64, 32
"""Of a map, per program."""
PROGRAMS = 1024
"""Shares of a map that are summed up first: the same on each GPU, so that the bytes are."""
PIXELS_PER_SHARE = 1024


def channel_sums(
    x: Tensor, grad: Tensor | None, scale: Tensor | None, shift: Tensor | None, pivot: Tensor | None, act: int
) -> Tensor:
    """Float32 shares x 2 x C: sums of what follows, over a share of the rows of `x` each.

    Without `grad`: the difference of `x` from its first pixel, and its square. With it: the gradient before the activation of
    `x` * `scale` + `shift`, and that times the difference of `x` from `pivot`.
    """
    channels = x.shape[1]
    rows, blocks = x.numel() // channels, triton.cdiv(channels, CHANNELS)
    tiles = triton.cdiv(rows, ROWS)
    shares = max(1, min(tiles, PROGRAMS // blocks))
    sums = torch.empty(shares, 2, channels, device=x.device, dtype=torch.float32)
    _channel_sums[(shares, blocks)](
        x, *(x if value is None else value for value in (grad, scale, shift, pivot)), sums, rows, channels,
        triton.cdiv(tiles, shares), GRAD=grad is not None, ACT=act, R=ROWS, C=CHANNELS,
    )  # fmt: skip
    return sums


def finish_norm(
    sums: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running: tuple[Tensor, Tensor, Tensor],
    momentum: float,
    eps: float,
) -> Tensor:
    """From sums without `grad` to float32 4 x C: scale, shift, mean and 1 / standard deviation. Updates the running statistics."""
    channels = x.shape[1]
    out = torch.empty(4, channels, device=x.device, dtype=torch.float32)
    _finish_norm[(triton.cdiv(channels, CHANNELS),)](
        sums,
        x,
        weight,
        bias,
        *running,
        out,
        len(sums),
        x.numel() // channels,
        channels,
        momentum,
        eps,
        R=ROWS,
        C=CHANNELS,
    )
    return out


def finish_norm_grad(sums: Tensor, statistics: Tensor, rows: int) -> Tensor:
    """From sums with `grad` to float32 4 x C: what `x` is multiplied by, what is added, and the gradients of weight and bias."""
    channels = sums.shape[2]
    out = torch.empty(4, channels, device=sums.device, dtype=torch.float32)
    _finish_norm_grad[(triton.cdiv(channels, CHANNELS),)](
        sums, statistics, out, len(sums), rows, channels, R=ROWS, C=CHANNELS
    )
    return out


def norm_act(x: Tensor, statistics: Tensor, act: int, y: Tensor) -> None:
    """The activation of `x` * scale + shift into `y`."""
    rows, grid = _row_grid(x)
    _norm_act[grid](x, statistics, y, rows, x.shape[1], ACT=act, R=ROWS, C=CHANNELS)


def norm_act_grad(grad: Tensor, x: Tensor, statistics: Tensor, factors: Tensor, act: int, x_grad: Tensor) -> None:
    """The gradient of the input of batch norm into `x_grad`."""
    rows, grid = _row_grid(x)
    _norm_act_grad[grid](grad, x, statistics, factors, x_grad, rows, x.shape[1], ACT=act, R=ROWS, C=CHANNELS)


def photo_sums(x: Tensor, grad: Tensor | None) -> Tensor:
    """Float32 N x C: sums over the pixels of each photo, of `x`, or of `x` * `grad`."""
    photos, channels, height, width = x.shape
    pixels, blocks = height * width, triton.cdiv(channels, CHANNELS)
    shares = triton.cdiv(pixels, PIXELS_PER_SHARE)
    sums = torch.empty(shares, photos, channels, device=x.device, dtype=torch.float32)
    _photo_sums[(shares, blocks, photos)](
        x, x if grad is None else grad, sums, photos, pixels, channels, triton.cdiv(min(pixels, PIXELS_PER_SHARE), ROWS),
        GRAD=grad is not None, PER_SHARE=PIXELS_PER_SHARE, R=ROWS, C=CHANNELS,
    )  # fmt: skip
    return sums[0] if shares == 1 else sums.sum(0)


def scaled(x: Tensor, gate: Tensor, offset: Tensor | None, y: Tensor) -> None:
    """`x` times `gate` plus `offset`, one value per photo and channel, into `y`."""
    photos, channels, height, width = x.shape
    grid = (triton.cdiv(height * width, ROWS), triton.cdiv(channels, CHANNELS), photos)
    _scaled[grid](
        x, gate, gate if offset is None else offset, y, height * width, channels,
        OFFSET=offset is not None, R=ROWS, C=CHANNELS,
    )  # fmt: skip


def _row_grid(x: Tensor) -> tuple[int, tuple[int, int]]:
    rows = x.numel() // x.shape[1]
    return rows, (triton.cdiv(rows, ROWS), triton.cdiv(x.shape[1], CHANNELS))


@triton.jit
def _activated(u, ACT: tl.constexpr):
    """0: none, 1: SiLU, 2: ReLU6, as in `plumage.accelerate.kernels.ACTIVATIONS`."""
    if ACT == 1:
        u = u * tl.sigmoid(u)
    elif ACT == 2:
        u = tl.minimum(tl.maximum(u, 0.0), 6.0)
    return u


@triton.jit
def _slope(u, ACT: tl.constexpr):
    """The derivative of the activation."""
    slope = tl.full(u.shape, 1.0, tl.float32)
    if ACT == 1:
        gate = tl.sigmoid(u)
        slope = gate * (1.0 + u * (1.0 - gate))
    elif ACT == 2:
        slope = tl.where((u > 0.0) & (u < 6.0), 1.0, 0.0)
    return slope


@triton.jit
def _channel_sums(
    x, grad, scale, shift, pivot, sums, rows, channels, tiles,
    GRAD: tl.constexpr, ACT: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    share = tl.program_id(0)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    known = channel < channels
    first, second = tl.zeros((R, C), tl.float32), tl.zeros((R, C), tl.float32)
    if GRAD:
        times = tl.load(scale + channel, known, other=0.0)[None, :]
        plus = tl.load(shift + channel, known, other=0.0)[None, :]
        middle = tl.load(pivot + channel, known, other=0.0)[None, :]
    else:
        middle = tl.load(x + channel, known, other=0.0).to(tl.float32)[None, :]
    for tile in range(share * tiles, (share + 1) * tiles):
        row = tile * R + tl.arange(0, R)
        inside = (row < rows)[:, None] & known[None, :]
        place = row.to(tl.int64)[:, None] * channels + channel[None, :]
        value = tl.load(x + place, inside, other=0.0).to(tl.float32)
        difference = tl.where(inside, value - middle, 0.0)
        if GRAD:
            slope = tl.load(grad + place, inside, other=0.0).to(tl.float32) * _slope(value * times + plus, ACT)
            first += slope
            second += slope * difference
        else:
            first += difference
            second += difference * difference
    sums += share * 2 * channels + channel
    tl.store(sums, tl.sum(first, 0), known)
    tl.store(sums + channels, tl.sum(second, 0), known)


@triton.jit
def _total(sums, shares, channels, channel, known, R: tl.constexpr, C: tl.constexpr):
    """Float64 sums over the shares."""
    total = tl.zeros((R, C), tl.float64)
    for start in range(0, shares, R):
        share = start + tl.arange(0, R)
        place = share[:, None] * 2 * channels + channel[None, :]
        total += tl.load(sums + place, (share < shares)[:, None] & known[None, :], other=0.0).to(tl.float64)
    return tl.sum(total, 0)


@triton.jit
def _finish_norm(
    sums, x, weight, bias, running_mean, running_var, batches, out, shares, rows, channels, momentum, eps,
    R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * C + tl.arange(0, C)
    known = channel < channels
    offset = _total(sums, shares, channels, channel, known, R, C) / rows
    square = _total(sums + channels, shares, channels, channel, known, R, C) / rows
    variance = tl.maximum(square - offset * offset, 0.0)
    mean = tl.load(x + channel, known, other=0.0).to(tl.float64) + offset
    inverse = 1.0 / tl.sqrt(variance + eps)
    scale = tl.load(weight + channel, known, other=0.0).to(tl.float64) * inverse
    shift = tl.load(bias + channel, known, other=0.0).to(tl.float64) - mean * scale
    out += channel
    tl.store(out, scale.to(tl.float32), known)
    tl.store(out + channels, shift.to(tl.float32), known)
    tl.store(out + 2 * channels, mean.to(tl.float32), known)
    tl.store(out + 3 * channels, inverse.to(tl.float32), known)
    old_mean = tl.load(running_mean + channel, known, other=0.0).to(tl.float64)
    tl.store(running_mean + channel, (old_mean + momentum * (mean - old_mean)).to(tl.float32), known)
    old_var = tl.load(running_var + channel, known, other=0.0).to(tl.float64)
    unbiased = variance * rows / tl.maximum(rows - 1, 1)
    tl.store(running_var + channel, (old_var + momentum * (unbiased - old_var)).to(tl.float32), known)
    if tl.program_id(0) == 0:
        tl.store(batches, tl.load(batches) + 1)


@triton.jit
def _finish_norm_grad(sums, statistics, out, shares, rows, channels, R: tl.constexpr, C: tl.constexpr):
    channel = tl.program_id(0) * C + tl.arange(0, C)
    known = channel < channels
    first = _total(sums, shares, channels, channel, known, R, C)
    second = _total(sums + channels, shares, channels, channel, known, R, C)
    statistics += channel
    scale = tl.load(statistics, known, other=0.0).to(tl.float64)
    mean = tl.load(statistics + 2 * channels, known, other=0.0).to(tl.float64)
    inverse = tl.load(statistics + 3 * channels, known, other=0.0).to(tl.float64)
    factor = -scale * inverse * inverse * second / rows
    out += channel
    tl.store(out, factor.to(tl.float32), known)
    tl.store(out + channels, (-scale * first / rows - factor * mean).to(tl.float32), known)
    tl.store(out + 2 * channels, (second * inverse).to(tl.float32), known)
    tl.store(out + 3 * channels, first.to(tl.float32), known)


@triton.jit
def _norm_act(x, statistics, y, rows, channels, ACT: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    row, channel = tl.program_id(0) * R + tl.arange(0, R), tl.program_id(1) * C + tl.arange(0, C)
    known = channel < channels
    inside = (row < rows)[:, None] & known[None, :]
    place = row.to(tl.int64)[:, None] * channels + channel[None, :]
    scale = tl.load(statistics + channel, known, other=0.0)[None, :]
    shift = tl.load(statistics + channels + channel, known, other=0.0)[None, :]
    value = tl.load(x + place, inside, other=0.0).to(tl.float32) * scale + shift
    tl.store(y + place, _activated(value, ACT).to(y.dtype.element_ty), inside)


@triton.jit
def _norm_act_grad(
    grad, x, statistics, factors, x_grad, rows, channels, ACT: tl.constexpr, R: tl.constexpr, C: tl.constexpr
):  # fmt: skip
    row, channel = tl.program_id(0) * R + tl.arange(0, R), tl.program_id(1) * C + tl.arange(0, C)
    known = channel < channels
    inside = (row < rows)[:, None] & known[None, :]
    place = row.to(tl.int64)[:, None] * channels + channel[None, :]
    scale = tl.load(statistics + channel, known, other=0.0)[None, :]
    shift = tl.load(statistics + channels + channel, known, other=0.0)[None, :]
    factor = tl.load(factors + channel, known, other=0.0)[None, :]
    offset = tl.load(factors + channels + channel, known, other=0.0)[None, :]
    value = tl.load(x + place, inside, other=0.0).to(tl.float32)
    slope = tl.load(grad + place, inside, other=0.0).to(tl.float32) * _slope(value * scale + shift, ACT)
    tl.store(x_grad + place, (scale * slope + factor * value + offset).to(x_grad.dtype.element_ty), inside)


@triton.jit
def _photo_sums(
    x, grad, sums, photos, pixels, channels, tiles,
    GRAD: tl.constexpr, PER_SHARE: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    share, photo = tl.program_id(0), tl.program_id(2)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    known = channel < channels
    total = tl.zeros((R, C), tl.float32)
    start = photo.to(tl.int64) * pixels
    for tile in range(tiles):
        pixel = share * PER_SHARE + tile * R + tl.arange(0, R)
        inside = (pixel < pixels)[:, None] & known[None, :]
        place = (start + pixel)[:, None] * channels + channel[None, :]
        value = tl.load(x + place, inside, other=0.0).to(tl.float32)
        if GRAD:
            value *= tl.load(grad + place, inside, other=0.0).to(tl.float32)
        total += value
    tl.store(sums + (share * photos + photo) * channels + channel, tl.sum(total, 0), known)


@triton.jit
def _scaled(x, gate, offset, y, pixels, channels, OFFSET: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    pixel, channel = tl.program_id(0) * R + tl.arange(0, R), tl.program_id(1) * C + tl.arange(0, C)
    photo = tl.program_id(2).to(tl.int64)
    known = channel < channels
    inside = (pixel < pixels)[:, None] & known[None, :]
    place = (photo * pixels + pixel)[:, None] * channels + channel[None, :]
    value = tl.load(x + place, inside, other=0.0).to(tl.float32)
    value *= tl.load(gate + photo * channels + channel, known, other=0.0)[None, :]
    if OFFSET:
        value += tl.load(offset + photo * channels + channel, known, other=0.0)[None, :]
    tl.store(y + place, value.to(y.dtype.element_ty), inside)
