"""A training in a TOML file; every section is one frozen dataclass, whose fields are the keys."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
import difflib
from pathlib import Path
import types
from typing import Union, get_args, get_origin, get_type_hints

from .camera import MOVES, CameraMove
from .denoiser import LowRankSize
from .manifest import ClipSampling
from .sources import VideoFile, videos_in_folder, videos_in_table, with_poses
from .stages import (
    ANIMATE_ANYONE_MOTION,
    DOMAIN_ADAPTER,
    MOTION_LORA,
    STAGES,
    TUNE_A_VIDEO,
    UNET_LEARNS,
    Stage,
)
from .trainer import TrainingSettings


@dataclass(frozen=True)
class ModelFiles:
    """Names in the host's model folders. motion_module: to change or to train further; "": a new one.

    For Animate Anyone: clip_vision sees the reference; reference_unet and pose_guider are trained further, or their
    motion is; diffusion_model stands in for the checkpoint's own UNet.
    """

    checkpoint: str
    motion_module: str = ""
    domain_adapter: str = ""
    domain_adapter_strength: float = 1.0
    diffusion_model: str = ""
    clip_vision: str = ""
    reference_unet: str = ""
    pose_guider: str = ""


@dataclass(frozen=True)
class Data:
    """folder: of videos and captions. table: a WebVid-style csv for it. caption: for videos without one.

    poses: a folder with a video of the poses for each video, under the same name.
    """

    folder: Path
    table: Path | None = None
    poses: Path | None = None
    caption: str = ""
    cache: Path = Path("cache")

    def videos(self) -> list[VideoFile]:
        """Raises FileNotFoundError and ValueError, as the functions of sources.py do."""
        if self.table is None:
            videos = videos_in_folder(self.folder, self.caption)
        else:
            videos = videos_in_table(self.table, self.folder, self.caption)
        return videos if self.poses is None else with_poses(videos, self.poses)


@dataclass(frozen=True)
class Camera:
    """move: one of the eight (camera.py), at `speed` times its speed; or the other four, for a move of one's own."""

    move: str = ""
    speed: float = 1.0
    zoom: float = 1.0
    pan: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0

    def moves(self) -> tuple[CameraMove, CameraMove] | None:
        """The gentlest and the strongest; None without a move. Raises ValueError for a name that is not one."""
        own = CameraMove(self.zoom, self.pan, self.tilt, self.roll)
        if not self.move:
            return None if own == CameraMove() else (own.at_speed(self.speed),) * 2
        if own != CameraMove():
            raise ValueError(f"camera has the move {self.move} and numbers of its own: give the one or the other.")
        if self.move not in MOVES:
            raise ValueError(f"there is no camera move '{self.move}': choose one of {', '.join(MOVES)}.")
        gentle, strong = MOVES[self.move]
        return gentle.at_speed(self.speed), strong.at_speed(self.speed)


@dataclass(frozen=True)
class NewMotionModule:
    """max_frames: the longest clip that it will know. mid_block: AnimateDiff v2's layout, instead of v3's."""

    max_frames: int = 32
    mid_block: bool = False


@dataclass(frozen=True)
class Config:
    """output: the file to write; of several, what each is comes after the name. state: the folder to go on from.

    half: write in float16. prediction: of Animate Anyone's stages: "v", or "noise" as the paper's text has it.
    save_every, validate_every: in steps. validation_clips: how many of the clips the fixed-noise loss is measured on.
    """

    stage: str
    output: Path
    state: Path
    models: ModelFiles
    data: Data
    half: bool = False
    prediction: str = "v"
    save_every: int = 100
    validate_every: int = 50
    validation_clips: int = 4
    clips: ClipSampling = field(default_factory=ClipSampling)
    camera: Camera = field(default_factory=Camera)
    low_rank: LowRankSize = field(default_factory=LowRankSize)
    motion_module: NewMotionModule = field(default_factory=NewMotionModule)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        for name in ("save_every", "validate_every", "validation_clips"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but it has to be 0 or more.")

    @property
    def row(self) -> Stage:
        row = STAGES[self.stage]
        return row if self.prediction == "v" else row.predicting_noise()

    @property
    def base_precision(self) -> str:
        """Of the UNet: it stays in float32 where it learns."""
        return "fp32" if self.stage in UNET_LEARNS else self.training.precision

    @property
    def sampling(self) -> ClipSampling:
        """Of the clips, with the camera's move."""
        gentle, strong = self.camera.moves() or (None, None)
        return replace(self.clips, gentle=gentle, strong=strong)


def read_config(path: Path) -> Config:
    """Read a TOML file; paths in it are relative to its own folder.

    Raises FileNotFoundError for a file or folder that is not there, and ValueError that names the key and what is
    wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no config {path}. Commented examples are in training/configs.")
    toml = _toml()
    try:
        content = toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not valid TOML: {error}.") from error
    stage = STAGES.get(str(content.get("stage")))
    if stage is None:
        raise ValueError(f"{path.name}: stage is {content.get('stage')!r}; choose one of {', '.join(STAGES)}.")
    clips = content.setdefault("clips", {})
    if isinstance(clips, dict):
        clips.setdefault("num_frames", stage.num_frames)
    try:
        config = _section(Config, content, "", path.parent)
        _check(config)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return config


def _check(config: Config) -> None:
    if config.output.suffix != ".safetensors":
        raise ValueError(f"output is {config.output.name}, but it has to end in .safetensors, which is its format.")
    single = config.stage == DOMAIN_ADAPTER
    if single != (config.clips.num_frames == 1):
        wants = "single frames: leave clips.num_frames out" if single else "clips: clips.num_frames is 16, for example"
        raise ValueError(f"a {config.row.title} learns from {wants}.")
    if config.stage == MOTION_LORA and not config.models.motion_module:
        raise ValueError("models.motion_module is missing: a MotionLoRA changes a motion module.")
    if config.stage == TUNE_A_VIDEO and config.models.motion_module:
        raise ValueError("Tune-A-Video works without a motion module: leave models.motion_module out.")
    if config.prediction not in ("v", "noise"):
        raise ValueError(f"prediction is '{config.prediction}', but it has to be 'v' or 'noise'.")
    if config.row.posed:
        _check_posed(config)
    config.camera.moves()
    for path in (config.data.folder, config.data.table, config.data.poses):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"There is no {path}, which the config names under [data].")


def _check_posed(config: Config) -> None:
    models = config.models
    needed = {"models.clip_vision": models.clip_vision, "data.poses": config.data.poses}
    if config.stage == ANIMATE_ANYONE_MOTION:
        needed |= {"models.reference_unet": models.reference_unet, "models.pose_guider": models.pose_guider}
    for name, value in needed.items():
        if not value:
            raise ValueError(f"{name} is missing: {config.row.title} is trained with it.")


def _section(cls: type, table: Mapping, where: str, folder: Path):
    """A dataclass of a section's keys; where: the section's name and a dot, for messages."""
    known = {f.name: f for f in fields(cls) if f.name not in ("gentle", "strong")}  # those come from [camera]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {where}{near[0]}?" if near else f"known are {', '.join(known)}."
            raise ValueError(f"there is no key {where}{key}; {hint}")
    for name, own in known.items():
        if name not in table and own.default is MISSING and own.default_factory is MISSING:
            raise ValueError(f"{where}{name} is missing.")
    kinds = get_type_hints(cls)
    defaults = {name: str(own.default) for name, own in known.items() if isinstance(own.default, Path)}
    values = {**defaults, **table}  # a default path is beside the config, too
    return cls(**{key: _value(kinds[key], value, f"{where}{key}", folder) for key, value in values.items()})


def _value(kind, value, where: str, folder: Path):
    if get_origin(kind) in (types.UnionType, Union):  # X | None; TOML has no None, so a key that is there has an X
        kind = next(option for option in get_args(kind) if option is not type(None))
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}, but it has to be a section, [{where}].")
        return _section(kind, value, f"{where}.", folder)
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if not isinstance(value, list) or len(value) != len(parts):
            raise ValueError(f"{where} is {value!r}, but it has to be {len(parts)} numbers, such as [256, 256].")
        return tuple(_value(part, item, where, folder) for part, item in zip(parts, value, strict=True))
    accepted = {float: (float, int), Path: (str,)}.get(kind, (kind,))
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        words = {float: "a number", int: "a whole number", str: "text in quotes", bool: "true or false"}
        raise ValueError(f"{where} is {value!r}, but it has to be {words.get(kind, 'a path in quotes')}.")
    return folder / value if kind is Path else kind(value)


def _toml():
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        try:
            import tomli as tomllib
        except ModuleNotFoundError as error:
            raise RuntimeError("Python 3.10 reads TOML files with tomli: run 'pip install tomli'.") from error
    return tomllib
