"""What the straight-line networks of `tests/reference` are written with, and how they are compared.

A reference is a function of (Straight, image) that calls torch's functions one after the other, with the parameters of
the network that it is compared with, by name. Nothing here knows how `unetkit.nets` builds a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unetkit.nets import NetSpec, UNet
from unetkit.nets.build import build

CONV = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
MODE = ("linear", "bilinear", "trilinear")


class Straight:
    """Parameters of a network by name, and operations in double precision that look theirs up."""

    def __init__(self, net: UNet) -> None:
        self.w: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        self.training, self.n = net.training, net.spec.ndim

    def conv(self, name: str, x: Tensor, pad: int | tuple[int, ...] | None = None, **how: Any) -> Tensor:
        """Convolution, zero-padded to keep the size unless `pad` says otherwise."""
        weight = self.w[f"{name}.weight"]
        if pad is None:
            pad = tuple(how.get("dilation", 1) * (k - 1) // 2 for k in weight.shape[2:])
        return CONV[self.n - 1](x, weight, self.w.get(f"{name}.bias"), padding=pad, **how)

    def up(self, name: str, x: Tensor, **how: Any) -> Tensor:
        """Transposed convolution, stride 2."""
        weight, bias = self.w[f"{name}.weight"], self.w.get(f"{name}.bias")
        return TRANSPOSED[self.n - 1](x, weight, bias, stride=2, **how)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch norm: the statistics of the batch in training, else those that run along."""
        axes, shape = [a for a in range(x.ndim) if a != 1], (-1, *[1] * self.n)
        if self.training:
            mean, var = x.mean(axes), x.var(axes, correction=0)
        else:
            mean, var = self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"]
        x = (x - mean.view(shape)) / torch.sqrt(var.view(shape) + 1e-5)
        if f"{name}.weight" in self.w:
            x = x * self.w[f"{name}.weight"].view(shape) + self.w[f"{name}.bias"].view(shape)
        return x

    def unit(self, part: str, i: int, x: Tensor, **how: Any) -> Tensor:
        """Convolution, batch norm, ReLU: number i of a part."""
        return torch.relu(self.norm(f"{part}.norm{i}", self.conv(f"{part}.conv{i}", x, **how)))

    def double(self, part: str, x: Tensor) -> Tensor:
        """Twice that."""
        return self.unit(part, 2, self.unit(part, 1, x))

    def max_pool(self, x: Tensor, n: int = 2) -> Tensor:
        return MAX_POOL[self.n - 1](x, n)

    def average_pool(self, x: Tensor, n: int = 2) -> Tensor:
        return AVERAGE_POOL[self.n - 1](x, n)

    def linear(self, x: Tensor, factor: int = 2, corners: bool = False) -> Tensor:
        """Interpolation by a whole factor."""
        return F.interpolate(x, scale_factor=float(factor), mode=MODE[self.n - 1], align_corners=corners)


def crop(x: Tensor, like: Tensor) -> Tensor:
    """The middle of a map, as large as another."""
    for axis in range(2, x.ndim):
        start = (x.shape[axis] - like.shape[axis]) // 2
        x = x.narrow(axis, start, like.shape[axis])
    return x


def stirred(spec: NetSpec, seed: int = 0) -> UNet:
    """The network of a spec in double precision; nothing in it is as in a fresh one: norms have statistics, scales and
    shifts, convolutions have biases, weights of fusion differ."""
    net, generator = build(spec, seed).double(), torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if not value.is_floating_point() or (value.ndim > 1 and "positions" not in name):
                continue
            uniform = torch.rand(value.shape, generator=generator, dtype=torch.float64)
            if name.endswith(("bias", "running_mean")):
                value.copy_(0.8 * uniform - 0.4)
            elif "positions" in name:
                value.copy_(2 * uniform - 1)
            elif value.ndim == 1:  # scales and variances of norms, slopes, weights of fusion
                value.copy_(uniform + 0.3)
    return net


def noise(*shape: int, seed: int = 0) -> Tensor:
    """An image in double precision."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agree(net: UNet, reference: Callable[[Straight, Tensor], Any], image: Tensor, training: bool) -> None:
    """The network and the reference give the same logits (in training all of them) and, in a random direction, the same
    derivatives by the image and by every parameter. Dropout draws the same for both."""
    net.train(training)
    image = image.clone().requires_grad_()
    leaves = {"image": image, **dict(net.named_parameters())}
    found = []
    for run in (net, lambda x: reference(Straight(net), x)):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            result = run(image)
            found.append(list(result) if isinstance(result, (list, tuple)) else [result])
    ours, theirs = found
    if not training:
        theirs = theirs[:1]
    assert len(ours) == len(theirs)
    gradients = []
    for results in found:
        loss = sum((logits * noise(*logits.shape, seed=9)).sum() for logits in results[: len(ours)])
        gradients.append(torch.autograd.grad(loss, list(leaves.values()), allow_unused=True))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert gradients[0][0].abs().max() > 0  # else nothing was compared
    for name, a, b in zip(leaves, *gradients, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            size = float(b.abs().max())
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9 * max(size, 1.0), msg=lambda m, n=name: f"{n}: {m}")
