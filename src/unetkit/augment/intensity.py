"""One intensity pass over the batch, in place, sample by sample, in the order in which an image comes about: uneven
light, blur, resolution, colour, gamma, contrast and brightness, noise, a channel that is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unetkit.augment.colour import Scale, change_colour
from unetkit.augment.draw import Draws
from unetkit.augment.warp import dense

# A narrower blur (standard deviation in pixels) changes nothing: its kernel is one pixel.
LEAST_BLUR = 0.2


def change_intensity(
    image_BCX: torch.Tensor, draws: Draws, scales: Sequence[Scale | None] | None = None, fixed: Sequence[int] = ()
) -> torch.Tensor:
    """Apply the drawn changes to image_BCX (float32, any number of axes), in place; returns it.

    scales: of each image its black and its white (`Scale`), where colours are changed. fixed: axes along which nothing
    is blurred by a lower resolution. What a sample was not drawn for costs nothing: a gamma of 1, and 0 for blur and
    noise.
    """
    for row, image_CX in enumerate(image_BCX):
        if draws.bias_BG is not None and draws.bias_BG[row].any():
            field = torch.from_numpy(draws.bias_BG[row]).to(image_CX.device, torch.float32)
            low = image_CX.amin()
            image_CX.sub_(low).mul_(dense(field[None, None], image_CX.shape[1:])[0].exp_()).add_(low)
        if draws.blur_B[row] > LEAST_BLUR:
            image_CX.copy_(_blurred(image_CX, float(draws.blur_B[row])))
        if draws.resolution_B is not None and draws.resolution_B[row] < 1:
            image_CX.copy_(_coarser(image_CX, float(draws.resolution_B[row]), fixed))
        change_colour(image_CX, draws, row, None if scales is None else scales[row])
        _bend(image_CX, draws, row)
        if draws.noise_B[row] > 0:
            _add_noise(image_CX, float(draws.noise_B[row]), int(draws.noise_seed_B[row]))
        if draws.channel_B is not None and draws.channel_B[row] >= 0 and len(image_CX) > 1:
            channel_X = image_CX[int(draws.channel_B[row] * len(image_CX))]
            channel_X.fill_(channel_X.mean())
    return image_BCX


def _bend(image_CX: torch.Tensor, draws: Draws, row: int) -> None:
    """Gamma on the image scaled to its own range, then contrast and brightness."""
    gain, shift, gamma = float(draws.gain_B[row]), float(draws.shift_B[row]), float(draws.gamma_B[row])
    if gamma != 1:
        low, high = (float(v) for v in torch.aminmax(image_CX))
        span = max(high - low, 1e-6)
        if draws.inverted_B is not None and draws.inverted_B[row]:
            image_CX.sub_(high).div_(-span)
            gain, shift = -gain * span, gain * high + shift
        else:
            image_CX.sub_(low).div_(span)
            gain, shift = gain * span, gain * low + shift  # back to its range, in the same pass as the contrast
        image_CX.pow_(gamma)
    image_CX.mul_(gain).add_(shift)


def _add_noise(image_CX: torch.Tensor, deviation: float, seed: int) -> None:
    """White Gaussian noise: the same on every processor, another on a GPU."""
    generator = torch.Generator(image_CX.device).manual_seed(seed)
    noise_X = torch.randn(image_CX.shape[1:], generator=generator, device=image_CX.device)
    for c, channel_X in enumerate(image_CX):
        # one plane of noise; every channel takes it from another place, so that no pixel has the same twice
        shifted_X = noise_X.view(-1).roll(c * noise_X.numel() // len(image_CX)).view_as(noise_X) if c else noise_X
        channel_X.add_(shifted_X, alpha=deviation)


def _blurred(image_CX: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian blur, cut at three standard deviations, with repeated borders. As sums of shifted images: for
    these narrow kernels that is quicker than a convolution."""
    radius = max(1, round(3 * sigma))
    tap = torch.exp(-0.5 * (torch.arange(radius + 1) / sigma) ** 2)
    weights = (tap / (2 * tap.sum() - 1)).tolist()  # the middle one counts once, the others on both sides
    for axis in range(1, image_CX.ndim):
        n = image_CX.shape[axis]
        beside = torch.arange(-radius, n + radius, device=image_CX.device).clamp_(0, n - 1)
        wide_CX = image_CX.index_select(axis, beside)
        image_CX = wide_CX.narrow(axis, radius, n) * weights[0]
        for k in range(1, radius + 1):
            for start in (radius - k, radius + k):
                image_CX.add_(wide_CX.narrow(axis, start, n), alpha=weights[k])
    return image_CX


def _coarser(image_CX: torch.Tensor, share: float, fixed: Sequence[int]) -> torch.Tensor:
    """What is left when only a share of the pixels along each axis is measured, each the mean of its area, and the rest
    interpolated (Isensee 2021 takes single pixels; a coarser sensor or voxel sees the mean)."""
    space = tuple(image_CX.shape[1:])
    fewer = [n if axis in fixed else max(1, round(n * share)) for axis, n in enumerate(space)]
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(space)]
    small = torch.nn.functional.interpolate(image_CX[None], fewer, mode="area")
    return torch.nn.functional.interpolate(small, space, mode=mode, align_corners=False)[0]
