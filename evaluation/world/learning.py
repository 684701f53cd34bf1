"""How the small world learns: from clips drawn as they are asked for, in runs that end when their time is spent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
import time

from safetensors.torch import load_file, save_file
import torch
from torch import Tensor, nn

from ...lora.layers import LowRankLayers
from ...training.atomic import write_file
from ...training.base import Base, weights_digest
from ...training.batches import EncodedClip
from ...training.denoiser import Denoiser, Parts
from ...training.run import Run
from ...training.stages import Stage
from ...training.trainer import Trainer, TrainingSettings
from .autoencoder import encode
from .drawing import Drawn, as_video, draw
from .scenes import PLAIN, Scene, draw_scene
from .words import encode_tokens

NUM_SCENES = 1_000_000  # more than any run sees
IMAGE_MODEL = Stage("image_model", "image model", 1, "sqrt_linear", False, "checkpoints")
SAVE_EVERY = 50  # steps of what is no run
Words = Callable[[str], Tensor]


@dataclass(frozen=True)
class WorldParts(Parts):
    """image_model: the UNet itself, for the stage that trains all of it."""

    image_model: nn.Module | None = None


def image_denoiser(base: Base, adapter: LowRankLayers | None = None, adapter_scale: float = 1.0) -> Denoiser:
    """Trains the whole UNet on stills, which nothing but the small world does."""
    parts = WorldParts(adapter, image_model=base.unet, domain_adapter_scale=adapter_scale)
    return Denoiser(IMAGE_MODEL, base, parts)


def cached_words(tokenize: Callable[[str], Tensor]) -> Words:
    """Captions to their encodings, (77, 768)."""
    return lru_cache(maxsize=2048)(lambda caption: encode_tokens(tokenize(caption)))


@dataclass(frozen=True)
class Clips(Sequence):
    """Encoded clips by number. video: of the video domain. bare, styles: as `draw_scene` takes them.

    scenes: a list of their own, instead of drawn ones.
    """

    words: Words
    seed: int = 0
    num_frames: int = 1
    bare: float = 0.0
    styles: tuple[str, ...] = (PLAIN,)
    video: bool = False
    scenes: tuple[Scene, ...] = field(default=())

    @property
    def empty_context(self) -> Tensor:
        return self.words("")

    def __len__(self) -> int:
        return len(self.scenes) or NUM_SCENES

    def __getitem__(self, number: int) -> EncodedClip:
        scene = self.scene(number)
        return self.encoded(scene, draw(scene, self.num_frames))

    def unseen(self, number: int) -> EncodedClip:
        """Of scenes that no training draws."""
        return self[NUM_SCENES + number]

    def encoded(self, scene: Scene, drawn: Drawn) -> EncodedClip:
        mean = encode(as_video(drawn.pictures) if self.video else drawn.pictures)
        return EncodedClip(mean, torch.zeros_like(mean), self.words(scene.caption))

    def scene(self, number: int) -> Scene:
        if self.scenes:
            return self.scenes[number]
        return draw_scene(self.seed, number, self.num_frames, self.bare, self.styles)


def learn(
    denoiser: Denoiser,
    clips: Clips,
    settings: TrainingSettings,
    state: Path,
    seconds: float,
    shown: Sequence[EncodedClip] = (),
    note: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Train for so many seconds in all, from the newest state of the folder if there is one.

    note: called after every step. A processor's seconds are those that it has worked for this, so that a machine with
    other work to do gives the same training later.
    """
    trainer = Trainer(denoiser, clips, clips.empty_context, settings)
    run = Run(trainer, state, identity_of(denoiser), 200, 200, shown)
    run.resume()
    spent = sum(report.seconds for report in run.reports)
    steps, clock = run.steps(), clock_of(denoiser.base.device)
    try:
        while spent < seconds:
            start = clock()
            report = replace(next(steps), seconds=clock() - start)
            run.reports[-1] = report
            spent += report.seconds
            note(run)
    finally:  # also after Ctrl+C
        run.save()
    return run


def learn_file(path: Path, network: nn.Module, seconds: float, loss_of: Callable[[int], Tensor]) -> nn.Module:
    """What is no part of the paper's training, from a file if it is there, which says how long it has learnt.

    loss_of: of a step's number. Returns the network frozen.
    """
    state = load_file(path) if path.is_file() else {}
    spent, step = (state.pop(name, torch.tensor(0.0)).item() for name in ("seconds", "step"))
    if state:
        network.load_state_dict(state)
    del state  # it maps the file, which Windows replaces no sooner
    network.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    clock = clock_of(torch.device("cpu"))
    start = clock() - spent
    while clock() - start < seconds:
        with torch.enable_grad():
            loss = loss_of(int(step))
            optimizer.zero_grad()
            loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % SAVE_EVERY == 0 or clock() - start >= seconds:
            numbers = {"seconds": torch.tensor(clock() - start), "step": torch.tensor(float(step))}
            write_file(path, lambda part: save_file({**network.state_dict(), **numbers}, part))  # noqa: B023
    return network.requires_grad_(False)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Seconds; on a processor those of one thread."""
    if device.type != "cpu":
        return time.perf_counter
    return lambda: time.process_time() / torch.get_num_threads()


def identity_of(denoiser: Denoiser) -> Mapping[str, object]:
    """What a run cannot change and go on: the frozen parts."""
    parts = {"adapter": denoiser.parts.domain_adapter, "motion_module": denoiser.parts.motion_module}
    frozen = {name: part for name, part in parts.items() if part is not None and part is not denoiser.trained}
    if denoiser.trained is not denoiser.base.unet:
        frozen["base"] = denoiser.base.unet
    return {"stage": denoiser.stage.name, **{name: weights_digest(part) for name, part in frozen.items()}}
