"""One optimizer step at a time: MSE on a batch of clips (AnimateDiff, arXiv 2307.04725, eq. 2 and 7).

Between the noise and its prediction, or between v and its prediction, as the stage says.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
import math
import time

import torch
from torch import Tensor, autocast, nn

from .batches import Batch, EncodedClip, ReadAhead, draw_batch
from .denoiser import Denoiser
from .engine import ONE_DEVICE, Engine
from .noise import alphas_cumprod, generator_at, q_sample, velocity

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VALIDATION_TIMESTEPS = (100, 300, 500, 700, 900)


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    batch_size: clips per optimizer step, over all processes together.
    text_dropout: the share of captions that are replaced by the empty one.
    timestep_power: timesteps are 1000 u^power of even u; AnimateDiff's 1 draws all alike, 0.5 noisy ones more often.
    max_grad_norm: gradients longer than this, all together, are shortened to it.
    precision: of the computation: "fp32", "bf16" or "fp16"; what is trained stays in float32.
    recompute: gradient checkpointing: far less memory, about half as much time again.
    eight_bit_adam: the optimizer's state in 8 bits; needs bitsandbytes.
    """

    steps: int = 1000
    batch_size: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    text_dropout: float = 0.1
    timestep_power: float = 1.0
    precision: str = "bf16"
    recompute: bool = False
    eight_bit_adam: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "learning_rate", "max_grad_norm", "timestep_power"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but it has to be more than 0.")
        if not 0 <= self.text_dropout <= 1:
            raise ValueError(f"text_dropout is {self.text_dropout}, but it is a share, from 0 to 1.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision '{self.precision}' is unknown: choose one of {', '.join(PRECISIONS)}.")


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step gave. step: how many are done. grad_norm: before clipping; seconds: it took."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    seconds: float


class Trainer:
    """Trains a denoiser's part on encoded clips.

    Every random draw follows from the settings' seed and the step's number (noise.py), so weights, optimizer and
    `step` are all the state that there is.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        clips: Sequence[EncodedClip],
        empty_context: Tensor,
        settings: TrainingSettings,
        engine: Engine = ONE_DEVICE,
    ):
        """clips: indexed lazily, step by step. empty_context: (T, D), the encoded empty caption.

        Raises ValueError if there is no clip, if the processes cannot share the batch equally, or for float32 with a
        smaller base.
        """
        if not len(clips):
            raise ValueError("there is no clip to train on: choose a folder that has videos.")
        if settings.batch_size % engine.world_size:
            raise ValueError(
                f"batch_size {settings.batch_size} cannot be shared equally by {engine.world_size} processes: "
                f"choose a multiple of {engine.world_size}."
            )
        if settings.precision == "fp32" and denoiser.base.dtype != torch.float32:
            raise ValueError(f"precision fp32 needs a base in float32, and this one is in {denoiser.base.dtype}.")
        self.denoiser, self.clips = denoiser, clips
        self.settings, self.engine = settings, engine
        self.step = 0
        # no method of this trainer: the two would keep each other, and all weights, until a collection
        self.batches = ReadAhead(partial(draw_batch, clips, empty_context, settings, share=engine))
        self.network = engine.wrap(denoiser)
        self.optimizer = _optimizer(denoiser, settings)
        self.alphas = alphas_cumprod(denoiser.stage.beta_schedule, denoiser.stage.zero_snr)
        # float16 has too small a range for gradients; bfloat16 has float32's
        self.scaler = torch.amp.GradScaler(denoiser.base.device.type, enabled=settings.precision == "fp16")

    def train_step(self) -> StepReport:
        """Draw the next batch, and take one optimizer step.

        Whatever is raised on the way (a Cancel from inside the UNet, out of memory), the weights are those of the step
        before. Raises FloatingPointError if the loss or the gradients are not numbers.
        """
        start = time.perf_counter()
        # a host runs its nodes in inference mode, a preview may have switched gradients off
        with torch.inference_mode(False), torch.enable_grad():
            batch = self.batches.at(self.step, last=self.step + 1 >= self.settings.steps)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._backward(batch)
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.settings.max_grad_norm).item()
            # with a GradScaler too large gradients are usual: it skips the step and scales less
            self._check(loss, 0.0 if self.scaler.is_enabled() else norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.step += 1
        return StepReport(self.step, loss, norm, self.settings.learning_rate, time.perf_counter() - start)

    def validation_loss(self, clips: Sequence[EncodedClip], timesteps: Sequence[int] = VALIDATION_TIMESTEPS) -> float:
        """The mean loss on clips with noise that is always the same, at several timesteps.

        It tells what the training loss hides, whose timesteps are random and whose size depends on them.
        """
        losses = []
        with torch.inference_mode(False), torch.no_grad():
            for number in range(len(clips)):
                clip = clips[number]
                for t in timesteps:
                    noise = torch.randn(clip.mean.shape, generator=generator_at(0, "validation", number, t))
                    batch = clip.fixed(noise, t)
                    with self.denoiser.running(clip.mean.shape[0]):
                        losses.append(self._loss(self.denoiser, batch).item())
        return sum(losses) / len(losses)

    def _backward(self, batch: Batch) -> float:
        """The mean loss over all processes; gradients are left on the parameters."""
        with self.denoiser.running(batch.latents.shape[1], self.settings.recompute):
            loss = self._loss(self.network, batch)
            self.engine.backward(self.scaler.scale(loss))
        return self.engine.mean(loss.detach()).item()

    def _loss(self, network: nn.Module, batch: Batch) -> Tensor:
        alpha, batch = self.alphas[batch.t], batch.to(self.denoiser.base.device)
        noisy = q_sample(batch.latents, batch.noise, alpha)
        with self._autocast():
            predicted = network(noisy, batch.t, batch.context, **batch.beside)
        v_prediction = self.denoiser.stage.v_prediction
        wanted = velocity(batch.latents, batch.noise, alpha) if v_prediction else batch.noise
        return nn.functional.mse_loss(predicted.float(), wanted)

    def _autocast(self):
        if self.settings.precision == "fp32":
            return nullcontext()
        return autocast(self.denoiser.base.device.type, PRECISIONS[self.settings.precision])

    def _check(self, loss: float, norm: float) -> None:
        if not math.isfinite(loss) or not math.isfinite(norm):
            what = "the loss" if not math.isfinite(loss) else "a gradient"
            raise FloatingPointError(
                f"At step {self.step + 1} {what} is not a number any more, so training stopped. The last saved state "
                f"is intact: go on from it with a learning rate below {self.settings.learning_rate:g}"
                + (", or in bf16 instead of fp16." if self.settings.precision == "fp16" else ".")
            )


def _optimizer(denoiser: Denoiser, settings: TrainingSettings) -> torch.optim.Optimizer:
    parameters = list(denoiser.parameters())
    if any(parameter.is_inference() for parameter in parameters):
        raise RuntimeError("The network was made in inference mode and cannot learn. Make it in a thread of its own.")
    options = {"lr": settings.learning_rate, "betas": (0.9, 0.999), "weight_decay": settings.weight_decay}
    if not settings.eight_bit_adam:
        return torch.optim.AdamW(parameters, **options)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise RuntimeError(
            "eight_bit_adam needs bitsandbytes, which is not installed: run 'pip install bitsandbytes', or switch "
            "eight_bit_adam off."
        ) from error
    return AdamW8bit(parameters, **options)
