"""One intensity pass over the batch, in place, sample by sample: blur, gamma, contrast and brightness, noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unetkit.augment.draw import Draws


def change_intensity(image_BCX: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Apply the drawn changes to image_BCX (float32, any number of axes), in place; returns it.

    What a sample was not drawn for costs nothing: a gamma of 1, and 0 for blur and noise.
    """
    for row, image_CX in enumerate(image_BCX):
        if draws.blur_B[row] > LEAST_BLUR:
            image_CX.copy_(_blurred(image_CX, float(draws.blur_B[row])))
        if draws.gamma_B[row] != 1:
            low, high = torch.aminmax(image_CX)
            span = (high - low).clamp_min(1e-6)
            image_CX.sub_(low).div_(span).pow_(float(draws.gamma_B[row])).mul_(span).add_(low)
        image_CX.mul_(float(draws.gain_B[row])).add_(float(draws.shift_B[row]))
        if draws.noise_B[row] > 0:
            generator = torch.Generator().manual_seed(int(draws.noise_seed_B[row]))
            image_CX.add_(torch.randn(image_CX.shape, generator=generator), alpha=float(draws.noise_B[row]))
    return image_BCX


# A narrower blur (standard deviation in pixels) changes nothing: its kernel is one pixel.
LEAST_BLUR = 0.2


def _blurred(image_CX: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian blur, cut at three standard deviations, with repeated borders."""
    ndim = image_CX.ndim - 1
    conv = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    radius = max(1, round(3 * sigma))
    tap = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    tap /= tap.sum()
    plane = image_CX[:, None]
    for axis in range(ndim):
        shape, pad = [1] * ndim, [0] * (2 * ndim)
        shape[axis] = len(tap)
        pad[2 * (ndim - 1 - axis)] = pad[2 * (ndim - 1 - axis) + 1] = radius
        plane = conv(F.pad(plane, pad, mode="replicate"), tap.reshape(1, 1, *shape))
    return plane[:, 0]
