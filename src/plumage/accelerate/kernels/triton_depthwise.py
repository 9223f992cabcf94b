"""Depthwise convolutions in Triton, on channels_last maps, N x H x W x C in memory, with taps K*K x C.

Import it only where Triton is installed. Sums are float32 and in a fixed order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from plumage.accelerate.kernels.gpu import side_of

PIXELS, CHANNELS = 64, 32
"""Of a map, per program."""
PROGRAMS = 2048
"""Shares of the pixels that the weights' gradient sums up first: the same on each GPU, so that the bytes are."""


def forward(
    x: Tensor, taps: Tensor, bias: Tensor | None, silu: bool, stride: int, padding: tuple[int, int], y: Tensor
) -> None:
    """Convolve `x` into `y`, both N x C x H x W, with an optional bias and SiLU."""
    (photos, channels, height, width), (out_height, out_width) = x.shape, y.shape[2:]
    grid = (triton.cdiv(out_height * out_width, PIXELS), triton.cdiv(channels, CHANNELS), photos)
    _forward[grid](
        x, taps, taps if bias is None else bias, y, height, width, channels, out_height, out_width, *padding,
        K=side_of(taps), STRIDE=stride, BIAS=bias is not None, SILU=silu, P=PIXELS, C=CHANNELS,
    )  # fmt: skip


def input_grad(grad: Tensor, taps: Tensor, stride: int, padding: tuple[int, int], x_grad: Tensor) -> None:
    """The gradient of the input into `x_grad`, N x C x H x W, from that of the output."""
    (photos, channels, height, width), (out_height, out_width) = x_grad.shape, grad.shape[2:]
    grid = (triton.cdiv(height * width, PIXELS), triton.cdiv(channels, CHANNELS), photos)
    _input_grad[grid](
        grad, taps, x_grad, height, width, channels, out_height, out_width, *padding,
        K=side_of(taps), STRIDE=stride, P=PIXELS, C=CHANNELS,
    )  # fmt: skip


def taps_grad(grad: Tensor, x: Tensor, side: int, stride: int, padding: tuple[int, int]) -> Tensor:
    """The gradient of the taps, float32 K*K x C."""
    (photos, channels, height, width), (out_height, out_width) = x.shape, grad.shape[2:]
    blocks, tiles = triton.cdiv(channels, CHANNELS), triton.cdiv(photos * out_height * out_width, PIXELS)
    shares = max(1, min(tiles, PROGRAMS // (blocks * side)))
    sums = torch.empty(shares, side * side, channels, device=x.device, dtype=torch.float32)
    _taps_grad[(shares, side, blocks)](
        grad, x, sums, photos, height, width, channels, out_height, out_width, *padding, triton.cdiv(tiles, shares),
        K=side, STRIDE=stride, P=PIXELS, C=CHANNELS,
    )  # fmt: skip
    return sums.sum(0)


@triton.jit
def _forward(
    x, taps, bias, y, height, width, channels, out_height, out_width, pad_y, pad_x,
    K: tl.constexpr, STRIDE: tl.constexpr, BIAS: tl.constexpr, SILU: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    photo = tl.program_id(2).to(tl.int64)
    x += photo * height * width * channels
    row, column = pixel // out_width, pixel % out_width
    exists, known = pixel < out_height * out_width, channel < channels
    total = tl.zeros((P, C), tl.float32)
    for ky in range(K):  # unrolled, it would take twice the registers
        for kx in tl.static_range(K):
            from_row, from_column = row * STRIDE + ky - pad_y, column * STRIDE + kx - pad_x
            inside = exists & (from_row >= 0) & (from_row < height) & (from_column >= 0) & (from_column < width)
            place = (from_row * width + from_column)[:, None] * channels + channel[None, :]
            value = tl.load(x + place, inside[:, None] & known[None, :], other=0.0).to(tl.float32)
            tap = tl.load(taps + (ky * K + kx) * channels + channel, known, other=0.0).to(tl.float32)
            total += value * tap[None, :]
    if BIAS:
        total += tl.load(bias + channel, known, other=0.0).to(tl.float32)[None, :]
    if SILU:
        total *= tl.sigmoid(total)
    y += photo * out_height * out_width * channels
    place = pixel[:, None] * channels + channel[None, :]
    tl.store(y + place, total.to(y.dtype.element_ty), exists[:, None] & known[None, :])


@triton.jit
def _input_grad(
    grad, taps, x_grad, height, width, channels, out_height, out_width, pad_y, pad_x,
    K: tl.constexpr, STRIDE: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0) * P + tl.arange(0, P)
    channel = tl.program_id(1) * C + tl.arange(0, C)
    photo = tl.program_id(2).to(tl.int64)
    grad += photo * out_height * out_width * channels
    row, column = pixel // width, pixel % width
    exists, known = pixel < height * width, channel < channels
    total = tl.zeros((P, C), tl.float32)
    for ky in range(K):  # unrolled, it would take twice the registers
        for kx in tl.static_range(K):
            down, across = row + pad_y - ky, column + pad_x - kx  # times the stride
            to_row, to_column = down // STRIDE, across // STRIDE
            inside = exists & (down >= 0) & (to_row < out_height) & (across >= 0) & (to_column < out_width)
            if STRIDE > 1:
                inside = inside & (down % STRIDE == 0) & (across % STRIDE == 0)
            place = (to_row * out_width + to_column)[:, None] * channels + channel[None, :]
            value = tl.load(grad + place, inside[:, None] & known[None, :], other=0.0).to(tl.float32)
            tap = tl.load(taps + (ky * K + kx) * channels + channel, known, other=0.0).to(tl.float32)
            total += value * tap[None, :]
    x_grad += photo * height * width * channels
    place = pixel[:, None] * channels + channel[None, :]
    tl.store(x_grad + place, total.to(x_grad.dtype.element_ty), exists[:, None] & known[None, :])


@triton.jit
def _taps_grad(
    grad, x, sums, photos, height, width, channels, out_height, out_width, pad_y, pad_x, tiles,
    K: tl.constexpr, STRIDE: tl.constexpr, P: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    share, ky = tl.program_id(0), tl.program_id(1)
    channel = tl.program_id(2) * C + tl.arange(0, C)
    known = channel < channels
    first = tl.zeros((P, C), tl.float32)
    second, third, fourth, fifth = first, first, first, first
    for tile in range(share * tiles, (share + 1) * tiles):
        pixel = tile * P + tl.arange(0, P)
        photo = pixel // (out_height * out_width)
        row, column = pixel // out_width % out_height, pixel % out_width
        exists = photo < photos
        place = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
        slope = tl.load(grad + place, exists[:, None] & known[None, :], other=0.0).to(tl.float32)
        from_row, from_column = row * STRIDE + ky - pad_y, column * STRIDE - pad_x
        inside = exists & (from_row >= 0) & (from_row < height)
        pixel = (photo.to(tl.int64) * height + from_row) * width
        first += slope * _value(x, pixel, from_column, inside, width, channel, channels)
        second += slope * _value(x, pixel, from_column + 1, inside, width, channel, channels)
        third += slope * _value(x, pixel, from_column + 2, inside, width, channel, channels)
        if K == 5:
            fourth += slope * _value(x, pixel, from_column + 3, inside, width, channel, channels)
            fifth += slope * _value(x, pixel, from_column + 4, inside, width, channel, channels)
    sums += (share * K * K + ky * K) * channels + channel
    tl.store(sums, tl.sum(first, 0), known)
    tl.store(sums + channels, tl.sum(second, 0), known)
    tl.store(sums + 2 * channels, tl.sum(third, 0), known)
    if K == 5:
        tl.store(sums + 3 * channels, tl.sum(fourth, 0), known)
        tl.store(sums + 4 * channels, tl.sum(fifth, 0), known)


@triton.jit
def _value(x, pixel, column, inside, width, channel, channels):
    """Float32 of a pixel's column, 0 beyond the edge."""
    inside = inside & (column >= 0) & (column < width)
    place = (pixel + column)[:, None] * channels + channel[None, :]
    return tl.load(x + place, inside[:, None] & (channel < channels)[None, :], other=0.0).to(tl.float32)
