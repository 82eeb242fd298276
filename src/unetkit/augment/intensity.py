"""One intensity pass over the whole batch: blur, gamma, contrast, brightness, noise."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from unetkit.augment.draw import Draws


def change_intensity(image_BCX: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Apply the drawn changes to image_BCX (float32, any number of axes). Returns a new tensor of the same shape."""
    image_BCX = _blur(image_BCX, draws.blur_B)
    axes = tuple(range(1, image_BCX.ndim))
    gain, shift, gamma, noise = (
        torch.from_numpy(np.asarray(v)).float().reshape(-1, *[1] * len(axes))
        for v in (draws.gain_B, draws.shift_B, draws.gamma_B, draws.noise_B)
    )
    if bool((gamma != 1).any()):
        low = image_BCX.amin(axes, keepdim=True)
        span = (image_BCX.amax(axes, keepdim=True) - low).clamp_min(1e-6)
        image_BCX = ((image_BCX - low) / span).pow_(gamma).mul_(span).add_(low)
    image_BCX = image_BCX * gain + shift
    if bool((noise > 0).any()):
        for row, seed in enumerate(draws.noise_seed_B):
            generator = torch.Generator().manual_seed(int(seed))
            image_BCX[row] += torch.randn(image_BCX.shape[1:], generator=generator) * noise[row, 0]
    return image_BCX


def _blur(image_BCX: torch.Tensor, sigma_B: np.ndarray) -> torch.Tensor:
    """Separable Gaussian blur of the rows whose sigma is above zero."""
    rows = np.flatnonzero(np.asarray(sigma_B) > 0.2)  # narrower than that, the kernel is one pixel
    if not len(rows):
        return image_BCX
    image_BCX = image_BCX.clone()
    ndim = image_BCX.ndim - 2
    conv = (F.conv1d, F.conv2d, F.conv3d)[ndim - 1]
    for row in rows:
        sigma = float(sigma_B[row])
        radius = max(1, round(3 * sigma))
        tap = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
        tap /= tap.sum()
        plane = image_BCX[row][:, None]
        for axis in range(ndim):
            shape, pad = [1] * ndim, [0] * (2 * ndim)
            shape[axis] = len(tap)
            pad[2 * (ndim - 1 - axis)] = pad[2 * (ndim - 1 - axis) + 1] = radius
            plane = conv(F.pad(plane, pad, mode="replicate"), tap.reshape(1, 1, *shape))
        image_BCX[row] = plane[:, 0]
    return image_BCX
