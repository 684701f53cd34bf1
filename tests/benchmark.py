"""Measure what motion costs: step time, where it goes, memory, load time; and what training and writing videos cost.

Random weights at the full size of SD1.5 and a v2 motion module. On a processor the frames are 128 x 128 pixels, on a
graphics card 512 x 512. Prints the tables that stand in docs/benchmarks.md.
"""

import argparse
from itertools import pairwise
from pathlib import Path
import platform
import statistics
import tempfile
import time

import in_process_host
from measuring import HAS_GPU, machine, now, peak_memory
import torch

in_process_host.make_importable(cpu=not HAS_GPU)

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options  # noqa: E402
from animatic_pack.nodes.host.core.attention import attention_over_frames  # noqa: E402
from animatic_pack.nodes.host.motion.attach import apply_motion_module  # noqa: E402
from animatic_pack.nodes.host.motion.module import load_motion_module  # noqa: E402
from animatic_pack.nodes.host.motion.sampling import MotionSettings  # noqa: E402
from animatic_pack.nodes.media.encode import Clip  # noqa: E402
from animatic_pack.nodes.media.formats import FORMATS  # noqa: E402
import comfy.model_management  # noqa: E402
import comfyui_version  # noqa: E402
import host_models  # noqa: E402
from long_clips import long_clips  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from small_models import motion_state_dict  # noqa: E402
from training_rates import training  # noqa: E402
from video_files import write_clip  # noqa: E402

CHANNELS = (320, 640, 1280, 1280)
PARTS = ("norms", "projections", "attention", "feed-forward", "layout copies and sums")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=512 if HAS_GPU else 128, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=8 if HAS_GPU else 4)
    parser.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16"), default="float16" if HAS_GPU else "float32"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--only-training", action="store_true", help="leave the other tables out")
    only.add_argument("--only-long-clips", action="store_true", help="likewise")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    print(f"machine: {machine()}")
    print(f"host: ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, Python {platform.python_version()}")
    print(
        f"SD1.5 with AnimateDiff v2, {options.frames} frames of {options.size} x {options.size}, cfg, {options.dtype}\n"
    )
    if not options.only_long_clips:
        training()
    if options.only_training:
        return
    with tempfile.TemporaryDirectory() as folder:
        long_clips(Path(folder))
        if options.only_long_clips:
            return
        windows(motion(options, Path(folder)), options)
        video(Path(folder))


def motion(options: argparse.Namespace, folder: Path):
    host_models.use_motion_folder(folder)
    dtype = getattr(torch, options.dtype)
    save_file(
        {k: v.half() for k, v in motion_state_dict(CHANNELS, modules=2, mid=True).items()}, folder / "v2.safetensors"
    )
    start = time.perf_counter()
    module = load_motion_module("v2.safetensors")
    load_seconds = time.perf_counter() - start
    plain = host_models.image_model("SD1.5", dtype, width=320, device=comfy.model_management.get_torch_device())
    animated = apply_motion_module(plain, module, MotionSettings("v2"))
    rows = []
    for name, model in (("plain", plain), ("with motion", animated)):
        with peak_memory() as peak:
            seconds = step_seconds(model, options)
        rows.append((name, seconds, peak["gigabytes"]))
    print("| | median step | peak memory |\n|---|---|---|")
    for name, seconds, gigabytes in rows:
        print(f"| {name} | {seconds:.3f} s | {gigabytes:.2f} GB |")
    print(f"| ratio | {rows[1][1] / rows[0][1]:.3f} | {rows[1][2] / rows[0][2]:.3f} |\n")
    print(f"Motion module load (0.9 GB fp16 file, warm disk cache): {load_seconds:.2f} s\n")
    print("| part of the motion | ms per step | share |\n|---|---|---|")
    split = split_of(module.patcher.model, options, dtype)
    for part in PARTS:
        print(f"| {part} | {split[part] * 1000:.1f} | {split[part] / sum(split.values()):.1%} |")
    print()
    return animated


def windows(animated, options: argparse.Namespace) -> None:
    """Long clips in windows of 16 frames: what a frame costs, and whether memory stays that of one window."""
    small = argparse.Namespace(**{**vars(options), "size": options.size if HAS_GPU else options.size // 2, "steps": 1})
    print(f"Context windows of 16 frames, {small.size} x {small.size}, overlap as named\n")
    print("| frames | overlap | windows | step | per frame | per window | peak memory |\n|---|---|---|---|---|---|---|")
    for overlap, lengths in ((0, (16, 32, 64, 128, 256)), (4, (64, 256))):
        for frames in lengths:
            settings = ContextOptions(16, overlap)
            count = len(settings.windows(frames, 0))
            small.frames = frames
            with peak_memory() as peak:
                seconds = step_seconds(set_context_options(animated, settings), small)
            row = frames, overlap, count, f"{seconds:.2f} s", f"{seconds / frames:.3f} s", f"{seconds / count:.2f} s"
            print("| " + " | ".join(map(str, row)) + f" | {peak['gigabytes']:.2f} GB |", flush=True)
    print()


def step_seconds(model, options: argparse.Namespace) -> float:
    """Median over all steps but the first, which also warms up."""
    times = []

    def at_step(*_):
        times.append(now())

    latent = options.size // 8
    host_models.sample(model, frames=options.frames, size=(latent, latent), steps=options.steps + 1, callback=at_step)
    return statistics.median(b - a for a, b in pairwise(times))


def split_of(module, options: argparse.Namespace, dtype: torch.dtype) -> dict[str, float]:
    """Seconds per part for one step: every site at its place's size, its layers timed one by one, median of five."""
    device = comfy.model_management.get_torch_device()
    total = dict.fromkeys(PARTS, 0.0)
    for name, site in module.sites.items():
        side = options.size // 8 // 2 ** level_of(name)
        x = torch.randn(2 * options.frames, site.channels, side, side, dtype=dtype, device=device)
        site.to(device)
        runs = [time_parts(site, x, options.frames) for _ in range(6)][1:]
        for part in PARTS:
            total[part] += statistics.median(run[part] for run in runs)
    return total


def time_parts(site, x: torch.Tensor, frames: int) -> dict[str, float]:
    """Seconds of one call of a temporal transformer; what no layer accounts for is copies and sums."""
    seconds = dict.fromkeys(PARTS, 0.0)
    layers = {layer: part for name, layer in site.named_modules() if (part := part_of(name))}
    started = {}

    def attention(q, k, v):
        start = now()
        out = attention_over_frames(q, k, v)
        seconds["attention"] += now() - start
        return out

    def begin(layer, args):
        started[layer] = now()

    def end(layer, args, output):
        seconds[layers[layer]] += now() - started[layer]

    handles = [layer.register_forward_pre_hook(begin) for layer in layers]
    handles += [layer.register_forward_hook(end) for layer in layers]
    start = now()
    site(x, frames, attention=attention)
    whole = now() - start
    for handle in handles:
        handle.remove()
    seconds["layout copies and sums"] = whole - sum(seconds.values())
    return seconds


def part_of(name: str) -> str | None:
    """The row of the table that a layer of a temporal transformer belongs to."""
    last = name.split(".")[-1]
    if last == "ff":
        return "feed-forward"
    if last in ("norm", "ff_norm") or ".norms." in name:
        return "norms"
    if last in ("proj_in", "proj_out", "to_q", "to_k", "to_v") or name.endswith("to_out.0"):
        return "projections"
    return None


def level_of(site: str) -> int:
    """How often the picture was halved where the site is."""
    block, _, level = site.split(".motion")[0].partition(".")
    return 3 if block == "mid_block" else int(level) if block == "down_blocks" else 3 - int(level)


def video(folder: Path) -> None:
    count, side = 64, 512
    ramp = torch.linspace(0, 1, side)
    frames = [
        torch.stack([(ramp + i / count) % 1 * row[:, None] for row in (ramp, ramp.flip(0), ramp * 0 + 0.5)], 2)
        for i in range(count)
    ]
    print(f"| Video Combine, {count} frames of {side} x {side} | frames per second |\n|---|---|")
    for name, video_format in FORMATS.items():
        path = folder / ("clip" if name.endswith("png") else "clip" + video_format.extension)
        clip = Clip(side, side, 8.0, seconds=count / 8)
        start = time.perf_counter()
        write_clip((frame.numpy() for frame in frames), clip, video_format, path, 19, 0)
        print(f"| {name} | {count / (time.perf_counter() - start):.0f} |")


if __name__ == "__main__":
    main()
