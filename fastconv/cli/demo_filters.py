"""The demo's filters, all made by formulas: nothing learned, nothing random."""

from __future__ import annotations

import numpy as np

ORIENTATIONS = 8
STEM_CHANNELS = 64
_LUMINANCE, _RED_GREEN, _BLUE_YELLOW = (0.299, 0.587, 0.114), (0.7, -0.7, 0.0), (-0.4, -0.4, 0.8)


def vertical_edges() -> np.ndarray:
    """The textbook's 3x3 detector, shape (1, 1, 3, 3): left minus right."""
    return np.array([[1, 0, -1]] * 3, np.float32)[None, None]


def oriented_bank(size: int = 11) -> np.ndarray:
    """Line detectors in `ORIENTATIONS` directions, shape (ORIENTATIONS, 1, size, size)."""
    bank = [gabor(size, o * np.pi / ORIENTATIONS, wavelength=6.0, phase=0.0) for o in range(ORIENTATIONS)]
    return np.stack(bank)[:, None].astype(np.float32)


def stem() -> np.ndarray:
    """First layer, shape (64, 3, 7, 7); the orientation of channel c is ``c % ORIENTATIONS``.

    32 filters of brightness (2 wavelengths, 2 phases) and 32 of colour (2 opponent pairs, 2 phases): what
    the first layers of trained nets look like.
    """
    kinds = [(_LUMINANCE, wavelength, phase) for wavelength in (3.5, 6.0) for phase in (0.0, np.pi / 2)]
    kinds += [(pair, 8.0, phase) for pair in (_RED_GREEN, _BLUE_YELLOW) for phase in (0.0, np.pi / 2)]
    filters = [
        np.multiply.outer(colour, gabor(7, o * np.pi / ORIENTATIONS, wavelength, phase))
        for colour, wavelength, phase in kinds
        for o in range(ORIENTATIONS)
    ]
    return np.stack(filters).astype(np.float32)


def corners() -> np.ndarray:
    """Second layer, shape (64, 64, 3, 3): where a channel's lines end, damped by what all others see."""
    y, x = np.mgrid[-1:2, -1:2]
    bell = np.exp(-(x**2 + y**2) / 2)
    w = np.empty((STEM_CHANNELS, STEM_CHANNELS, 3, 3))
    w[:] = -bell / bell.sum() / (4 * STEM_CHANNELS)
    for channel in range(STEM_CHANNELS):
        angle = channel % ORIENTATIONS * np.pi / ORIENTATIONS
        w[channel, channel] += (y * np.cos(angle) - x * np.sin(angle)) * bell
    return w.astype(np.float32)


def gabor(size: int, angle: float, wavelength: float, phase: float) -> np.ndarray:
    """A wave under a bell, shape (size, size), mean 0 and length 1; ``angle`` is that of its normal."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = np.exp(-(x**2 + y**2) / (2 * (size / 4.5) ** 2)) * np.cos(2 * np.pi * along / wavelength + phase)
    wave -= wave.mean()
    return np.asarray(wave / np.linalg.norm(wave))
