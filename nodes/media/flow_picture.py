"""Optical flow in colours: the hue is the direction, the strength how far."""

import numpy as np


def flow_picture(flow: np.ndarray, strongest: float) -> np.ndarray:
    """(h, w, 3) in 0..1 of a flow (h, w, 2); white does not move, full colour moves `strongest` pixels or more.

    To the right is red, down yellow-green, to the left cyan, up violet.
    """
    right, down = flow[..., 0], flow[..., 1]
    strength = np.minimum(np.hypot(right, down) / max(strongest, 1e-6), 1)[..., None]
    hue = np.arctan2(down, right) / (2 * np.pi) % 1
    # of a hue, each colour is a trapezoid over its circle
    colour = np.clip(np.abs((hue[..., None] * 6 + (0, 4, 2)) % 6 - 3) - 1, 0, 1)
    return (1 - strength * (1 - colour)).astype(np.float32)
