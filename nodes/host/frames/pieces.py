"""Long clips through little memory: latents decoded, and frames encoded, a few at a time.

A picture takes 48 times the room of its latent, so a long clip never stands as pictures all at once.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

PIECE = 16  # frames; on a small card the VAE itself takes fewer at once


class DecodedFrames:
    """The pictures of a LATENT, for whoever takes them one after the other: `shape` and `[index]` as of an IMAGE."""

    def __init__(self, latent: Mapping[str, Tensor], vae):
        """Raises ValueError for latents that are no pictures, or without a VAE."""
        samples = latent["samples"]
        if vae is None:
            raise ValueError("Video Combine needs a VAE for a latent: connect the checkpoint's.")
        if getattr(samples, "is_nested", False) or samples.ndim != 4:
            raise ValueError("This latent is of a video model: decode it with VAE Decode, and connect the images.")
        known = getattr(vae, "latent_channels", samples.shape[1])
        if samples.shape[1] != known:
            raise ValueError(
                f"This latent has {samples.shape[1]} channels, and the vae takes {known}: connect the VAE of the model "
                "that made the latent."
            )
        self._samples, self._vae = samples, vae
        self._piece, self._pictures = -1, None
        self.shape = torch.Size((samples.shape[0], *self[0].shape)) if len(samples) else torch.Size((0, 0, 0, 3))

    def __getitem__(self, index: int) -> Tensor:
        """(H, W, C)"""
        piece, row = divmod(index, PIECE)
        if piece != self._piece:
            self._pictures = None  # before the next ones need their room
            self._pictures = self._vae.decode(self._samples[piece * PIECE : (piece + 1) * PIECE])
            self._piece = piece
        return self._pictures[row]


class EncodedFrames:
    """Collects frames as latents.

    They go into one block that doubles when it is full. Small blocks, kept one after another between the large ones
    that the VAE gives back, would hinder the system's allocator from using these again, and the process would grow.
    """

    def __init__(self, vae):
        self._vae = vae
        self._waiting: list[Tensor] = []
        self._latents: Tensor | None = None
        self._count = 0

    def add(self, frame: np.ndarray) -> None:
        """frame: uint8 (H, W, 3)."""
        self._waiting.append(torch.from_numpy(frame))
        if len(self._waiting) == PIECE:
            self._encode()

    def latent(self) -> dict[str, Tensor]:
        """All of them, as VAE Encode gives them: (F, 4, h, w)."""
        self._encode()
        return {"samples": self._latents[: self._count].clone()}

    def _encode(self) -> None:
        if not self._waiting:
            return
        latents = self._vae.encode(torch.stack(self._waiting).float() / 255)
        if latents.ndim != 4:
            raise ValueError("This VAE is of a video model: connect an image model's, or none and take the images.")
        self._waiting = []
        end = self._count + len(latents)
        if self._latents is None or end > len(self._latents):
            grown = latents.new_empty(2 * end, *latents.shape[1:])
            if self._latents is not None:
                grown[: self._count] = self._latents[: self._count]
            self._latents = grown
        self._latents[self._count : end] = latents
        self._count = end
