"""The N-D operator table: for each kind of layer, the torch module that does it.

The only file that knows Conv1d, Conv2d and Conv3d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetkit.nets.program import Layer
from unetkit.nets.spec import NetSpec

# by number of axes; torch types each with tuples of its own length, which cannot be said for all three at once
Make = Callable[..., nn.Module]
CONV: tuple[Make, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: tuple[Make, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORM: tuple[Make, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAX_POOL: tuple[Make, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE_POOL: tuple[Make, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
LINEAR_MODE = ("linear", "bilinear", "trilinear")
EPSILON = 1e-5
GROUPS = 8  # of group norm, where they divide the width


def pad_end(image_BCX: Tensor, amounts: Sequence[int]) -> Tensor:
    """Longer by `amounts` pixels at the end of each axis: reflected where it is long enough, else the edge repeats.

    A reflection of n pixels needs an axis of n + 1 pixels or more.
    """
    return pad_sides(image_BCX, [(0, amount) for amount in amounts], "reflect")


def pad_sides(image_BCX: Tensor, amounts: Sequence[tuple[int, int]], mode: str) -> Tensor:
    """Longer by (before, after) pixels on each axis; mode 'reflect' (where the axis is long enough) or 'replicate'."""
    if mode == "replicate" or all(max(pair) < n for pair, n in zip(amounts, image_BCX.shape[2:], strict=True)):
        return F.pad(image_BCX, [amount for pair in reversed(amounts) for amount in pair], mode)
    for axis, (before, after) in enumerate(amounts, start=2):
        if before == after == 0:
            continue
        n = image_BCX.shape[axis]
        index = torch.arange(-before, n + after, device=image_BCX.device)
        if max(before, after) < n:
            index = (n - 1) - ((n - 1) - index.abs()).abs()
        image_BCX = image_BCX.index_select(axis, index.clamp(0, n - 1))
    return image_BCX


class Pad(nn.Module):
    """A border around the map: reflected where the map is large enough, or the edge repeated."""

    def __init__(self, pad: Sequence[int], mode: str) -> None:
        super().__init__()
        self.amounts, self.mode = [(p, p) for p in pad], mode

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → (B, C, *(X + 2·pad))."""
        return pad_sides(x_BCX, self.amounts, self.mode)


class InstanceNorm(nn.Module):
    """Instance norm with scale and shift. Unlike torch's, it takes maps of a single pixel (the result is the shift)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        """The identity after the normalisation."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → the same shape."""
        return torch.instance_norm(x_BCX, self.weight, self.bias, None, None, True, 0.0, EPSILON, False)


class GroupNorm(nn.Module):
    """Group norm with scale and shift. Unlike torch's, it takes maps of a single pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = next(g for g in range(min(GROUPS, channels), 0, -1) if channels % g == 0)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        """The identity after the normalisation."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → the same shape."""
        return torch.group_norm(x_BCX, self.groups, self.weight, self.bias, EPSILON, False)


class Enlarge(nn.Module):
    """Interpolation by a whole factor per axis; pixel centres, corners not aligned."""

    def __init__(self, factor: Sequence[int], mode: str) -> None:
        super().__init__()
        self.factor, self.mode = [float(f) for f in factor], mode

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → (B, C, *factor·X)."""
        return F.interpolate(x_BCX, scale_factor=self.factor, mode=self.mode)


class Shuffle(nn.Module):
    """Pixel shuffle in any number of dimensions: (B, C·∏factor, *X) → (B, C, *factor·X) (Shi 2016, equation 4)."""

    def __init__(self, factor: Sequence[int]) -> None:
        super().__init__()
        self.factor = tuple(factor)

    def forward(self, x_BCX: Tensor) -> Tensor:
        """Channel c·∏factor + (offset within the box, row-major) becomes that offset of channel c."""
        if len(self.factor) == 2 and self.factor[0] == self.factor[1]:
            return F.pixel_shuffle(x_BCX, self.factor[0])  # same order of channels; keeps channels_last
        n, space = len(self.factor), x_BCX.shape[2:]
        boxes_BCFX = x_BCX.reshape(x_BCX.shape[0], -1, *self.factor, *space)
        order = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]
        size = [f * s for f, s in zip(self.factor, space, strict=True)]
        return boxes_BCFX.permute(0, 1, *order).reshape(x_BCX.shape[0], -1, *size)


class Concat(nn.Module):
    """Channels side by side."""

    def forward(self, *xs_BCX: Tensor) -> Tensor:
        """(B, Cᵢ, *X) … → (B, ΣCᵢ, *X)."""
        return torch.cat(xs_BCX, dim=1)


class Add(nn.Module):
    """The sum."""

    def forward(self, first_BCX: Tensor, *others_BCX: Tensor) -> Tensor:
        """(B, C, *X) … → (B, C, *X)."""
        for other in others_BCX:
            first_BCX = first_BCX + other
        return first_BCX


class Crop(nn.Module):
    """The middle of a map, as large as another."""

    def forward(self, x_BCX: Tensor, like_BCX: Tensor) -> Tensor:
        """(B, C, *X), (B, C', *Y) → (B, C, *Y); a view."""
        for axis in range(2, x_BCX.ndim):
            size = like_BCX.shape[axis]
            x_BCX = x_BCX.narrow(axis, (x_BCX.shape[axis] - size) // 2, size)
        return x_BCX


def _conv(layer: Layer, spec: NetSpec, _: bool) -> nn.Module:
    return CONV[spec.ndim - 1](
        layer.in_channels,
        layer.channels,
        layer.kernel,
        stride=layer.stride,
        padding=layer.pad,
        bias=layer.bias,
    )


def _transposed(layer: Layer, spec: NetSpec, _: bool) -> nn.Module:
    return TRANSPOSED[spec.ndim - 1](
        layer.in_channels,
        layer.channels,
        layer.kernel,
        stride=layer.stride,
        bias=layer.bias,
    )


# kind of layer → (layer, spec, may it overwrite its input) → module
MAKERS: dict[str, Callable[[Layer, NetSpec, bool], nn.Module]] = {
    "conv": _conv,
    "transposed": _transposed,
    "reflect_pad": lambda layer, _spec, _: Pad(layer.pad, "reflect"),
    "replicate_pad": lambda layer, _spec, _: Pad(layer.pad, "replicate"),
    "batch_norm": lambda layer, spec, _: BATCH_NORM[spec.ndim - 1](layer.channels, eps=EPSILON),
    "instance_norm": lambda layer, _spec, _: InstanceNorm(layer.channels),
    "group_norm": lambda layer, _spec, _: GroupNorm(layer.channels),
    "relu": lambda _layer, _spec, inplace: nn.ReLU(inplace),
    "leaky_relu": lambda _layer, _spec, inplace: nn.LeakyReLU(0.01, inplace),
    "gelu": lambda _layer, _spec, _: nn.GELU(),
    "silu": lambda _layer, _spec, _: nn.SiLU(),
    "max_pool": lambda layer, spec, _: MAX_POOL[spec.ndim - 1](layer.kernel, layer.stride),
    "average_pool": lambda layer, spec, _: AVERAGE_POOL[spec.ndim - 1](layer.kernel, layer.stride),
    "linear_up": lambda layer, spec, _: Enlarge(layer.stride, LINEAR_MODE[spec.ndim - 1]),
    "nearest_up": lambda layer, _spec, _: Enlarge(layer.stride, "nearest"),
    "shuffle": lambda layer, _spec, _: Shuffle(layer.stride),
    "dropout": lambda _layer, spec, _: nn.Dropout(spec.dropout),
    "concat": lambda _layer, _spec, _: Concat(),
    "add": lambda _layer, _spec, _: Add(),
    "crop": lambda _layer, _spec, _: Crop(),
}
