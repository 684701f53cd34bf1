"""What long clips take: Load Video with a VAE to a latent, and Video Combine from that latent to a file again.

In a VAE of the host whose networks only pool and enlarge: what is looked at is what grows with the clip.
"""

from pathlib import Path
import subprocess
import time

from animatic_pack.nodes.host.frames.load import load_latent
from animatic_pack.nodes.host.frames.pieces import DecodedFrames
from animatic_pack.nodes.host.frames.save import SaveOptions, save_video
from animatic_pack.nodes.media.decode import Selection
import comfy.sd
import folder_paths
import imageio_ffmpeg
from measuring import peak_memory
from small_models import vae_state_dict, without_prefix
import torch
from torch import Tensor, nn

SIDE, LENGTHS = 256, (300, 3000)  # 3,000 pictures of that size are 2.2 GB


class Pool(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        colours = nn.functional.avg_pool2d(pictures, 8)
        return torch.cat((colours, colours.mean(dim=1, keepdim=True)), dim=1)


class Enlarge(nn.Module):
    def forward(self, latents: Tensor) -> Tensor:
        return nn.functional.interpolate(latents[:, :3], scale_factor=8, mode="bilinear")


def long_clips(folder: Path) -> None:
    """A table: frames, seconds and peak memory of both directions. folder: for the videos."""
    folder_paths.set_output_directory(str(folder))
    vae = comfy.sd.VAE(sd=without_prefix(vae_state_dict()))
    vae.first_stage_model.taesd_encoder, vae.first_stage_model.taesd_decoder = Pool(), Enlarge()
    print(f"Long clips, {SIDE} x {SIDE}\n")
    print("| frames | as pictures | video to latent | its peak memory | latent to video | its peak memory |")
    print("|---|---|---|---|---|---|")
    for frames in LENGTHS:
        path = folder / f"{frames}.mp4"
        write_test_pattern(path, frames)
        with peak_memory() as loading:
            start = time.perf_counter()
            latent, _ = load_latent(path, Selection(), 0, 0, vae)
            loaded = time.perf_counter()
        with peak_memory() as saving:
            options = SaveOptions(24.0, 0, "long", "video/h264-mp4", 19, False, True)
            save_video(DecodedFrames(latent, vae), None, options, {})
        times = f"{loaded - start:.0f} s", f"{time.perf_counter() - loaded:.0f} s"
        peaks = (f"{peak['gigabytes']:.2f} GB" for peak in (loading, saving))
        row = [f"{frames:,}", f"{frames * SIDE**2 * 12 / 2**30:.2f} GB"]
        for pair in zip(times, peaks, strict=True):
            row += pair
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def write_test_pattern(path: Path, frames: int) -> None:
    source = ["-f", "lavfi", "-i", f"testsrc2=size={SIDE}x{SIDE}:rate=24", "-frames:v", str(frames)]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, str(path)], check=True)
