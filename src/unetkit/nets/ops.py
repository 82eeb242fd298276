"""The N-D operator table: for each kind of layer, the torch module that does it.

The only file that knows Conv1d, Conv2d and Conv3d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetkit.nets.own import built
from unetkit.nets.program import Layer
from unetkit.nets.spec import NetSpec

# by number of axes; torch types each with tuples of its own length, which cannot be said for all three at once
Make = Callable[..., nn.Module]


class Conv3d(nn.Conv3d):
    """As torch's. Around a fault of the CPU's kernels in bfloat16 (oneDNN, as of torch 2.13): where a zero-padded map
    has fewer planes than the kernel spans, the gradient of the weights reads memory that nobody wrote, and is now and
    then no number. Planes of zeros behind the map, where the padding is zero anyway, change nothing else."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(B, C, Z, Y, X) → (B, C', Z', Y', X')."""
        planes, pad = input.shape[2], self.padding[0]
        missing = self.dilation[0] * (self.kernel_size[0] - 1) + 1 - planes
        if missing <= 0 or pad == 0 or self.stride[0] > 1 or input.is_cuda or not torch.is_grad_enabled():
            return super().forward(input)
        return super().forward(F.pad(input, (0, 0, 0, 0, 0, missing)))[:, :, :-missing]


CONV: tuple[Make, ...] = (nn.Conv1d, nn.Conv2d, Conv3d)
TRANSPOSED: tuple[Make, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORM: tuple[Make, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAX_POOL: tuple[Make, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
MAP_DROPOUT: tuple[Make, ...] = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
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


class _Norm(nn.Module):
    """The learned scale and shift of a norm, or none."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, affine: bool) -> None:
        super().__init__()
        self.channels = channels
        self.register_parameter("weight", nn.Parameter(torch.ones(channels)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if affine else None)

    def reset_parameters(self) -> None:
        """The identity after the normalisation."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)


class InstanceNorm(_Norm):
    """Instance norm. Unlike torch's, it takes maps of a single pixel (the result is the shift)."""

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → the same shape, and the same memory layout."""
        if not x_BCX.is_contiguous():
            # with the channels last every image is normalised as a batch of one: all images at once, as channels of
            # one, would have to be brought into the other layout, and all that follows would stay in it
            each = [self._norm(image_1CX, self.weight, self.bias) for image_1CX in torch.split(x_BCX, 1)]
            return each[0] if len(each) == 1 else torch.cat(each)
        batch, channels = x_BCX.shape[:2]
        scale, shift = (p if p is None else p.repeat(batch) for p in (self.weight, self.bias))
        y = self._norm(x_BCX.view(1, batch * channels, *x_BCX.shape[2:]), scale, shift)
        # As `torch.instance_norm`, but its result is no view for autograd: an activation that overwrites a view would
        # make torch copy the whole map several times in training.
        result: Tensor = torch.ops.aten._unsafe_view(y, x_BCX.shape)
        return result

    @staticmethod
    def _norm(x_1CX: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        return torch.batch_norm(x_1CX, scale, shift, None, None, True, 0.0, EPSILON, False)


class GroupNorm(_Norm):
    """Group norm. Unlike torch's, it takes maps of a single pixel."""

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → the same shape."""
        groups = next(g for g in range(min(GROUPS, self.channels), 0, -1) if self.channels % g == 0)
        return torch.group_norm(x_BCX, groups, self.weight, self.bias, EPSILON, False)


class LayerNorm(_Norm):
    """Norm over the channels of every pixel, with scale and shift per channel: unlike other norms of a single image it
    is local (Ba 2016; over channels as in Liu 2022)."""

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → the same shape."""
        x_BXC = F.layer_norm(x_BCX.movedim(1, -1), (self.channels,), self.weight, self.bias, EPSILON)
        return x_BXC.movedim(-1, 1)


class Enlarge(nn.Module):
    """Interpolation by a whole factor per axis, between pixel centres; or with the corners of the map aligned."""

    def __init__(self, factor: Sequence[int], mode: str, corners: bool | None = None) -> None:
        super().__init__()
        self.factor, self.mode, self.corners = [float(f) for f in factor], mode, corners

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → (B, C, *factor·X)."""
        return F.interpolate(x_BCX, scale_factor=self.factor, mode=self.mode, align_corners=self.corners)


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


class Multiply(nn.Module):
    """The product; a factor of one channel or one pixel holds for all."""

    def forward(self, x_BCX: Tensor, factor_BCX: Tensor) -> Tensor:
        """(B, C, *X), (B, C or 1, *X or *1) → (B, C, *X)."""
        return x_BCX * factor_BCX


class Fuse(nn.Module):
    """A mean of n maps whose weights are a softmax of learned numbers, so that they are positive and sum to one."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count))

    def reset_parameters(self) -> None:
        """Equal weights."""
        nn.init.zeros_(self.weight)

    def forward(self, *xs_BCX: Tensor) -> Tensor:
        """n of (B, C, *X) → (B, C, *X)."""
        share_N = torch.softmax(self.weight, 0)
        total = xs_BCX[0] * share_N[0]
        for i, x_BCX in enumerate(xs_BCX[1:], start=1):
            total.addcmul_(x_BCX, share_N[i])  # in place: no derivative needs the sum so far
        return total


class Mean(nn.Module):
    """The mean over the map."""

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → (B, C, *1)."""
        return x_BCX.mean(dim=tuple(range(2, x_BCX.ndim)), keepdim=True)


class Repeat(nn.Module):
    """Another number of channels without weights: more by repeating them in turn, fewer as means of those in turn."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → (B, channels, *X)."""
        has, wanted = x_BCX.shape[1], self.channels
        times, rest = divmod(max(has, wanted), min(has, wanted))
        if has < wanted:
            return torch.cat([x_BCX] * times + [x_BCX[:, :rest]] * (rest > 0), dim=1)
        total: Tensor = x_BCX[:, : times * wanted].reshape(-1, times, wanted, *x_BCX.shape[2:]).sum(1)
        counts = x_BCX.new_full((wanted,), float(times))
        if rest:
            total[:, :rest] += x_BCX[:, times * wanted :]  # in place: one map instead of three
            counts[:rest] += 1
        return total.div_(counts.reshape(-1, *[1] * (x_BCX.ndim - 2)))


class Scale(nn.Module):
    """A learned factor per channel, small at first (Touvron 2021, section 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 1e-6))

    def reset_parameters(self) -> None:
        """1e-6, so that the block is nearly the identity."""
        nn.init.constant_(self.weight, 1e-6)

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → the same shape."""
        return x_BCX * self.weight.reshape(-1, *[1] * (x_BCX.ndim - 2))


class Shift(nn.Module):
    """A learned number per channel, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        """Zero."""
        nn.init.zeros_(self.bias)

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → the same shape."""
        return x_BCX + self.bias.reshape(-1, *[1] * (x_BCX.ndim - 2))


class Embed(nn.Module):
    """A learned vector for every integer below the vocabulary."""

    def __init__(self, vocabulary: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, channels))

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, 1, *X), whole numbers of any type (rounded) → (B, channels, *X)."""
        index_BX = x_BCX[:, 0].round().long() if x_BCX.is_floating_point() else x_BCX[:, 0].long()
        return F.embedding(index_BX, self.weight).movedim(-1, 1)


class Positions(nn.Module):
    """A learned vector for every place, kept on a coarse grid and interpolated to the map (Dosovitskiy 2021, section
    3.2: positions are interpolated where sizes differ)."""

    def __init__(self, channels: int, grid: int, ndim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, *(grid,) * ndim))

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → the same shape."""
        mode = LINEAR_MODE[x_BCX.ndim - 3]
        return x_BCX + F.interpolate(self.weight, size=x_BCX.shape[2:], mode=mode, align_corners=False).to(x_BCX.dtype)


class Attention(nn.Module):
    """Scaled dot-product attention over all pixels (Vaswani 2017, equation 1)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv_BCX: Tensor) -> Tensor:
        """(B, 3·C, *X) → (B, C, *X)."""
        batch, space = qkv_BCX.shape[0], qkv_BCX.shape[2:]
        # (B, 3, heads, width, pixels) → three of (B, heads, pixels, width); laid out so, torch need not write down the
        # attention of every pixel to every other
        parts = qkv_BCX.reshape(batch, 3, self.heads, -1, space.numel()).transpose(-1, -2).contiguous()
        query, key, value = parts.unbind(1)
        result_BHPW = F.scaled_dot_product_attention(query, key, value)
        return result_BHPW.transpose(-1, -2).reshape(batch, -1, *space)


class WhereMax(nn.Module):
    """Where in the map the maximum of every box lies, as the index into its flattened pixels."""

    def __init__(self, ndim: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride, self.pool = tuple(stride), (F.max_pool1d, F.max_pool2d, F.max_pool3d)[ndim - 1]

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → (B, C, *(X / stride)) int64."""
        _, index = self.pool(x_BCX.detach(), self.stride, self.stride, return_indices=True)
        return index


class Unpool(nn.Module):
    """Values put back to where the maxima were taken, zeros elsewhere (Badrinarayanan 2017, section 3)."""

    def __init__(self, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)

    def forward(self, x_BCX: Tensor, where_BCX: Tensor) -> Tensor:
        """(B, C, *X) twice → (B, C, *(stride·X))."""
        space = [s * n for s, n in zip(self.stride, x_BCX.shape[2:], strict=True)]
        flat = x_BCX.new_zeros(*x_BCX.shape[:2], prod(space))
        return flat.scatter_(2, where_BCX.flatten(2), x_BCX.flatten(2)).reshape(*x_BCX.shape[:2], *space)


class Blur(nn.Module):
    """Binomial low-pass of every channel and every stride-th value of it (Zhang 2019, section 3.2)."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.conv = (F.conv1d, F.conv2d, F.conv3d)[len(layer.kernel) - 1]

    def forward(self, x_BCX: Tensor) -> Tensor:
        """(B, C, *X) → (B, C, *(X / stride))."""
        weight = x_BCX.new_ones(())
        for n in self.layer.kernel:
            row = [float(comb(n - 1, k)) / 2 ** (n - 1) for k in range(n)]
            weight = weight[..., None] * x_BCX.new_tensor(row)
        kernel = weight.expand(x_BCX.shape[1], 1, *weight.shape)
        stride, pad = self.layer.stride, self.layer.pad
        return self.conv(x_BCX, kernel, stride=stride, padding=pad, groups=x_BCX.shape[1])


def _conv(layer: Layer, spec: NetSpec, _: bool) -> nn.Module:
    return CONV[spec.ndim - 1](
        layer.in_channels,
        layer.channels,
        layer.kernel,
        stride=layer.stride,
        padding=layer.pad,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias,
    )


def _transposed(layer: Layer, spec: NetSpec, _: bool) -> nn.Module:
    return TRANSPOSED[spec.ndim - 1](
        layer.in_channels,
        layer.channels,
        layer.kernel,
        stride=layer.stride,
        padding=layer.pad,
        output_padding=tuple(s - k + 2 * p for s, k, p in zip(layer.stride, layer.kernel, layer.pad, strict=True)),
        bias=layer.bias,
    )


def _module(layer: Layer, _spec: NetSpec, _: bool) -> nn.Module:
    assert layer.make is not None
    return built(layer.make)


# kind of layer → (layer, spec, may it overwrite its input) → module
MAKERS: dict[str, Callable[[Layer, NetSpec, bool], nn.Module]] = {
    "conv": _conv,
    "strided_conv": _conv,
    "transposed": _transposed,
    "reflect_pad": lambda layer, _spec, _: Pad(layer.pad, "reflect"),
    "replicate_pad": lambda layer, _spec, _: Pad(layer.pad, "replicate"),
    "batch_norm": lambda layer, spec, _: BATCH_NORM[spec.ndim - 1](layer.channels, eps=EPSILON, affine=layer.size > 0),
    "instance_norm": lambda layer, _spec, _: InstanceNorm(layer.channels, layer.size > 0),
    "group_norm": lambda layer, _spec, _: GroupNorm(layer.channels, layer.size > 0),
    "layer_norm": lambda layer, _spec, _: LayerNorm(layer.channels, layer.size > 0),
    "relu": lambda _layer, _spec, inplace: nn.ReLU(inplace),
    "leaky_relu": lambda _layer, _spec, inplace: nn.LeakyReLU(0.01, inplace),
    "prelu": lambda layer, _spec, _: nn.PReLU(layer.channels),
    "elu": lambda _layer, _spec, _: nn.ELU(),
    "gelu": lambda _layer, _spec, _: nn.GELU(),
    "silu": lambda _layer, _spec, _: nn.SiLU(),
    "sigmoid": lambda _layer, _spec, _: nn.Sigmoid(),
    "max_pool": lambda layer, spec, _: MAX_POOL[spec.ndim - 1](layer.kernel, layer.stride),
    "average_pool": lambda layer, spec, _: AVERAGE_POOL[spec.ndim - 1](layer.kernel, layer.stride),
    "blur": lambda layer, _spec, _: Blur(layer),
    "where_max": lambda layer, spec, _: WhereMax(spec.ndim, layer.stride),
    "unpool": lambda layer, _spec, _: Unpool(layer.stride),
    "linear_up": lambda layer, spec, _: Enlarge(layer.stride, LINEAR_MODE[spec.ndim - 1]),
    "corners_up": lambda layer, spec, _: Enlarge(layer.stride, LINEAR_MODE[spec.ndim - 1], corners=True),
    "nearest_up": lambda layer, _spec, _: Enlarge(layer.stride, "nearest"),
    "shuffle": lambda layer, _spec, _: Shuffle(layer.stride),
    "dropout": lambda _layer, spec, _: nn.Dropout(spec.dropout),
    "map_dropout": lambda _layer, spec, _: MAP_DROPOUT[spec.ndim - 1](spec.dropout),
    "concat": lambda _layer, _spec, _: Concat(),
    "add": lambda _layer, _spec, _: Add(),
    "multiply": lambda _layer, _spec, _: Multiply(),
    "fuse": lambda layer, _spec, _: Fuse(layer.size),
    "mean": lambda _layer, _spec, _: Mean(),
    "repeat": lambda layer, _spec, _: Repeat(layer.channels),
    "shift": lambda layer, _spec, _: Shift(layer.channels),
    "scale": lambda layer, _spec, _: Scale(layer.channels),
    "embed": lambda layer, _spec, _: Embed(layer.size, layer.channels),
    "positions": lambda layer, spec, _: Positions(layer.channels, layer.size, spec.ndim),
    "attention": lambda layer, _spec, _: Attention(layer.size),
    "crop": lambda _layer, _spec, _: Crop(),
    "module": _module,
}
