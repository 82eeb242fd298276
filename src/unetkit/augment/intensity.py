"""One intensity pass over the batch, in place, sample by sample: blur, gamma, contrast and brightness, noise."""

from __future__ import annotations

import torch

from unetkit.augment.draw import Draws


def change_intensity(image_BCX: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Apply the drawn changes to image_BCX (float32, any number of axes), in place; returns it.

    What a sample was not drawn for costs nothing: a gamma of 1, and 0 for blur and noise.
    """
    for row, image_CX in enumerate(image_BCX):
        if draws.blur_B[row] > LEAST_BLUR:
            image_CX.copy_(_blurred(image_CX, float(draws.blur_B[row])))
        gain, shift = float(draws.gain_B[row]), float(draws.shift_B[row])
        if draws.gamma_B[row] != 1:
            low, high = (float(v) for v in torch.aminmax(image_CX))
            span = max(high - low, 1e-6)
            image_CX.sub_(low).div_(span).pow_(float(draws.gamma_B[row]))
            gain, shift = gain * span, gain * low + shift  # back to its range, in the same pass as the contrast
        image_CX.mul_(gain).add_(shift)
        if draws.noise_B[row] > 0:
            generator = torch.Generator().manual_seed(int(draws.noise_seed_B[row]))
            noise_X = torch.randn(image_CX.shape[1:], generator=generator)
            for c, channel_X in enumerate(image_CX):
                # one plane of noise; every channel takes it from another place, so that no pixel has the same twice
                shifted_X = (
                    noise_X.view(-1).roll(c * noise_X.numel() // len(image_CX)).view_as(noise_X) if c else noise_X
                )
                channel_X.add_(shifted_X, alpha=float(draws.noise_B[row]))
    return image_BCX


# A narrower blur (standard deviation in pixels) changes nothing: its kernel is one pixel.
LEAST_BLUR = 0.2


def _blurred(image_CX: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian blur, cut at three standard deviations, with repeated borders. As sums of shifted images: for
    these narrow kernels that is quicker than a convolution."""
    radius = max(1, round(3 * sigma))
    tap = torch.exp(-0.5 * (torch.arange(radius + 1) / sigma) ** 2)
    weights = (tap / (2 * tap.sum() - 1)).tolist()  # the middle one counts once, the others on both sides
    for axis in range(1, image_CX.ndim):
        n = image_CX.shape[axis]
        wide_CX = image_CX.index_select(axis, torch.arange(-radius, n + radius).clamp_(0, n - 1))
        image_CX = wide_CX.narrow(axis, radius, n) * weights[0]
        for k in range(1, radius + 1):
            for start in (radius - k, radius + k):
                image_CX.add_(wide_CX.narrow(axis, start, n), alpha=weights[k])
    return image_CX
