"""Load Video and Load Image Sequence: the nodes themselves on the real host, then a served host with whole graphs."""

import json
import os
from pathlib import Path
import re
import subprocess
import sys
import time

from animatic_pack.nodes.host.core.paths import input_path
from animatic_pack.nodes.host.frames.load import as_images
from animatic_pack.nodes.host.frames.pieces import DecodedFrames, EncodedFrames
from animatic_pack.nodes.host.frames.save import SaveOptions, save_video
from animatic_pack.nodes.load_video import LoadImageSequence, LoadVideo
from animatic_pack.nodes.save_video import VideoCombine
import comfy.sd
import comfy.utils
from comfy_execution.graph_utils import ExecutionBlocker
import folder_paths
import imageio_ffmpeg
from long_clips import Pool
import numpy as np
from PIL import Image
import psutil
import pytest
from reference import relative_error
from small_models import vae_state_dict
import torch

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the kernel's account of memory")
ALL = {"frame_load_cap": 0, "skip_first_frames": 0, "select_every_nth": 1, "width": 0, "height": 0}


def pictures(count, height=48, width=64):
    """Smooth frames of growing red, so that the mean tells the frame even after lossy coding."""
    frames = np.full((count, height, width, 3), 60, np.uint8)
    frames[..., 0] = (np.arange(count) * 8)[:, None, None]
    frames[:, :, width // 2 :, 2] = 200
    return frames


def ffmpeg(*arguments, data=None):
    return subprocess.run(
        [FFMPEG, "-v", "error", "-y", *map(str, arguments)], input=data, capture_output=True, check=True
    ).stdout


def clip(path, count=24, codec=("-c:v", "png"), sound=False, **size):
    """A video of 24 frames per second, without loss unless `codec` says so; its sound is 440 Hz for half a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = pictures(count, **size)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{frames.shape[2]}x{frames.shape[1]}", "-framerate", "24"]
    tone = ["-f", "lavfi", "-i", "sine=440:d=0.5:r=44100", "-c:a", "pcm_s16le"] if sound else []
    ffmpeg(*raw, "-i", "pipe:0", *tone, *codec, path, data=frames.tobytes())
    return frames


def load_video(name, force_rate=0.0, **changes):
    return LoadVideo().load(name, force_rate, **{**ALL, **changes})[:4]


def small_vae():
    return comfy.sd.VAE(sd={key.removeprefix("first_stage_model."): value for key, value in vae_state_dict().items()})


def load_images(name, **changes):
    return LoadImageSequence().load(name, **{**ALL, **changes})


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The host's folders in this process; their parent holds a file that no prompt may reach."""
    for kind in ("input", "output", "temp"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (tmp_path / "input_other").mkdir()
    (tmp_path / "input_other" / "secret.mp4").write_bytes(b"secret")
    return tmp_path


def test_a_video_without_sound(folders):
    source = clip(folders / "input" / "a.mov")
    images, audio, rate, count = load_video("a.mov")
    assert torch.equal(images, torch.from_numpy(source.astype(np.float32) / 255)) and images.dtype == torch.float32
    assert audio is None and rate == 24 and count == 24


def test_sound_belongs_to_the_frames(folders):
    clip(folders / "input" / "a.mov", sound=True)
    _, audio, rate, count = load_video("a.mov", skip_first_frames=6, select_every_nth=3, frame_load_cap=4)
    assert (rate, count) == (8, 4) and audio["sample_rate"] == 44100
    waveform = audio["waveform"]
    assert waveform.shape == (1, 1, 22050) and waveform.dtype == torch.float32, "4 frames at 8 per second"
    assert waveform[0, 0, :11000].abs().max() > 0.1 and not waveform[0, 0, 11200:].any(), "from 0.25 s, it ends at 0.5"


@pytest.mark.parametrize(
    "width, height, size",
    [(32, 0, (24, 32)), (0, 24, (24, 32)), (32, 32, (32, 32)), (64, 48, (48, 64)), (5, 0, (4, 5))],
)
def test_size(folders, width, height, size):
    source = torch.from_numpy(clip(folders / "input" / "a.mov", 4)).float() / 255
    images = load_video("a.mov", width=width, height=height)[0]
    assert images.shape == (4, *size, 3)
    expected = comfy.utils.common_upscale(source.movedim(-1, 1), size[1], size[0], "lanczos", "center").movedim(1, -1)
    assert (images - expected).abs().max() < 1e-6
    middle = size[1] // 2
    assert images[:, :, : middle - 3, 2].max() < 0.4 and images[:, :, middle + 3 :, 2].mean() > 0.7 or size == (4, 5)


def test_selection_and_forced_rate(folders):
    source = torch.from_numpy(clip(folders / "input" / "a.mov")).float() / 255
    images, _, rate, count = load_video("a.mov", 12.0, skip_first_frames=2, select_every_nth=2, frame_load_cap=3)
    assert torch.equal(images, source[[4, 8, 12]]) and (rate, count) == (6, 3)


def test_frames_as_a_latent_a_few_at_a_time(folders, monkeypatch):
    """What Load Video encodes is what VAE Encode makes of its images, and no piece is longer than the others."""
    clip(folders / "input" / "a.mov", count=37)
    vae, sizes = small_vae(), []
    images, _, rate, count = load_video("a.mov")
    expected = vae.encode(images)
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda pixels: sizes.append(len(pixels)) or encode(pixels))
    nothing, _, same_rate, same_count, latent = LoadVideo().load("a.mov", 0.0, **ALL, vae=vae)
    assert sizes == [16, 16, 5] and (same_rate, same_count) == (rate, count)
    assert relative_error(latent["samples"], expected) < 1e-5
    assert isinstance(nothing, ExecutionBlocker) and "use its latent" in nothing.message
    assert isinstance(LoadVideo().load("a.mov", 0.0, **ALL)[4], ExecutionBlocker)
    monkeypatch.setattr(vae, "encode", lambda pixels: encode(pixels)[None])  # as VAEs of video models do
    with pytest.raises(ValueError, match="of a video model"):
        LoadVideo().load("a.mov", 0.0, **ALL, vae=vae)


def test_a_video_out_of_a_latent_is_the_one_out_of_its_images(folders, monkeypatch):
    vae, sizes = small_vae(), []
    samples = torch.randn(21, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    options = SaveOptions(8.0, 0, "clip", "video/ffv1-mkv", 0, True, True)
    images = vae.decode(samples)
    _, expected = save_video(images, None, options, {})
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda part: sizes.append(len(part)) or decode(part))
    _, written = save_video(DecodedFrames({"samples": samples}, vae), None, options, {})
    assert sizes == [16, 5, 16]  # forward, and back again
    shown = [frames_of(path, *images.shape[1:3]) for path in (written, expected)]
    assert written != expected and len(shown[0]) == 40 and np.array_equal(*shown)


def test_images_or_a_latent():
    latent = {"samples": torch.zeros(1, 4, 1, 1)}
    for given in ({}, {"images": torch.zeros(1, 8, 8, 3), "latent": latent}):
        with pytest.raises(ValueError, match="connect one of the two"):
            VideoCombine().combine(8.0, 0, "clip", "video/h264-mp4", 19, False, True, **given)
    with pytest.raises(ValueError, match="needs a VAE"):
        DecodedFrames(latent, None)
    with pytest.raises(ValueError, match="of a video model"):
        DecodedFrames({"samples": torch.zeros(1, 4, 2, 1, 1)}, small_vae())


def test_progress_moves_and_ends_full(folders, monkeypatch):
    clip(folders / "input" / "a.mov")
    shown = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: shown.append((value, total)))
    load_video("a.mov", select_every_nth=2)
    assert shown[0][1] == 12 and shown[-1] == (12, 12)


def test_what_cannot_fit_is_refused_at_the_first_frame(folders, monkeypatch):
    clip(folders / "input" / "a.mov")
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 800_000)
    with pytest.raises(ValueError, match="24 frames of 64 x 48 need .* Set frame_load_cap"):
        load_video("a.mov")
    assert load_video("a.mov", width=16)[3] == 24 and load_video("a.mov", frame_load_cap=10)[3] == 10


def resident(what):
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


@on_linux
def test_frames_are_never_in_memory_twice_as_floats():
    frames = [np.full((256, 256, 3), index % 256, np.uint8) for index in range(100)]
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    images = as_images(frames)
    assert resident("VmHWM") - before < 1.1 * images.numel() * 4 and not frames
    assert images[7, 0, 0, 0] == torch.tensor(7) / 255 and images[99].mean() == pytest.approx(99 / 255)


@on_linux
def test_a_long_video_needs_no_more_memory_than_its_latents():
    """Whatever the VAE takes for one piece is free again for the next."""
    vae, frame = small_vae(), np.zeros((256, 256, 3), np.uint8)
    vae.first_stage_model.taesd_encoder = Pool()
    frames = EncodedFrames(vae)

    def add(count):
        for _ in range(count):
            frames.add(frame)

    add(160)
    before = resident("VmRSS")
    add(480)
    assert resident("VmRSS") - before < 100e6  # with every piece's latents in a block of their own it is 280e6
    assert frames.latent()["samples"].shape == (640, 4, 32, 32)


REFUSED = [
    "../secret.mp4",
    "sub/../../secret.mp4",
    "../input_other/secret.mp4",
    "../secret.mp4 [input]",
    "../secret.mp4 [output]",
    "../input/../secret.mp4 [temp]",
    "/etc/passwd",
    "{folders}/secret.mp4",
    "//etc/passwd",
    "C:\\Windows\\win.ini",
    "..\\secret.mp4",
    "file:../secret.mp4",
    "http://127.0.0.1/a.mp4",
    "concat:a.mov|../secret.mp4",
    "missing.mp4",
    "a.mov [output]",
    "sub",
    "a.mov\0.mp4",
    "",
    " ",
    ".",
    5,
    True,
    {"a": 1},
]


@pytest.mark.parametrize("name", REFUSED, ids=repr)
def test_names_that_lead_outside_are_refused(folders, name):
    clip(folders / "input" / "a.mov", 2)
    clip(folders / "input" / "sub" / "b.mov", 2)
    if isinstance(name, str):
        name = name.replace("{folders}", str(folders))
    message = LoadVideo.VALIDATE_INPUTS(video=name)
    assert isinstance(message, str) and re.search("outside of ComfyUI's folders|missing|Choose a file", message)
    with pytest.raises(ValueError):
        load_video(name)
    with pytest.raises(ValueError):
        load_images(f"{name}/.." if isinstance(name, str) and name.startswith("..") else name)


@pytest.mark.parametrize(
    "name", ["a.mov", "sub/b.mov", "sub/../a.mov", "a.mov [input]", "made.mov [output]", "t.mov [temp]", "linked/c.mov"]
)
def test_names_inside_pass(folders, name):
    for place in ("input/a.mov", "input/sub/b.mov", "output/made.mov", "temp/t.mov", "elsewhere/c.mov"):
        clip(folders / place, 2)
    try:
        (folders / "input" / "linked").symlink_to(folders / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("links need a right here")
    assert LoadVideo.VALIDATE_INPUTS(video=name) is True and LoadVideo.VALIDATE_INPUTS(video=None) is True
    assert load_video(name)[3] == 2


def test_another_drive_is_outside(folders, monkeypatch):
    def other_drive(paths):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", other_drive)
    with pytest.raises(ValueError, match="outside of ComfyUI's folders"):
        input_path("a.mov")


def test_the_menus(folders):
    for name in ("b.mp4", "sub/deep/a.GIF", "a.webp", "n.txt", "i.png"):
        (folders / "input" / name).parent.mkdir(parents=True, exist_ok=True)
        (folders / "input" / name).write_bytes(b"")
    for name in ("frames10", "frames2", "sub/deep"):
        (folders / "input" / name).mkdir(exist_ok=True)
        (folders / "input" / name / "1.JPG").write_bytes(b"")
    names, options = LoadVideo.INPUT_TYPES()["required"]["video"]
    assert names == ["a.webp", "b.mp4", "sub/deep/a.GIF"] and options["video_upload"]
    assert LoadImageSequence.INPUT_TYPES()["required"]["folder"][0] == ["frames2", "frames10", "sub/deep"]


def test_a_changed_file_is_loaded_again(folders):
    path = folders / "input" / "a.mov"
    clip(path, 2)
    first = LoadVideo.IS_CHANGED(video="a.mov", **ALL)
    assert first == LoadVideo.IS_CHANGED(video="a.mov", **ALL)
    os.utime(path, (1, 1))
    assert first != LoadVideo.IS_CHANGED(video="a.mov", **ALL)
    images = folders / "input" / "f"
    save(images / "1.png", np.zeros((4, 4), np.uint8))
    first = LoadImageSequence.IS_CHANGED(folder="f", **ALL)
    save(images / "2.png", np.zeros((4, 4), np.uint8))
    assert first != LoadImageSequence.IS_CHANGED(folder="f", **ALL)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def test_images_in_the_order_of_their_numbers(folders):
    for number in (10, 9, 1, 2, 100):
        save(folders / "input" / "f" / f"frame{number}.png", np.full((6, 8, 3), number, np.uint8))
    (folders / "input" / "f" / "notes.txt").write_text("not an image")
    images, mask, count = load_images("f")
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [1, 2, 9, 10, 100] and count == 5
    assert mask.shape == (5, 6, 8) and not mask.any()
    images, _, count = load_images("f", skip_first_frames=1, select_every_nth=2, frame_load_cap=2)
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [2, 10] and count == 2


def test_kinds_of_images(folders):
    place = folders / "input" / "f"
    ramp = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    save(place / "1_sixteen_bits.png", ramp)
    save(place / "2_eight_bits.png", (ramp >> 8).astype(np.uint8))
    clear = np.full((6, 8, 4), 80, np.uint8)
    clear[:, :4, 3] = 255
    save(place / "3_alpha.png", clear)
    Image.fromarray(clear).convert("LA").save(place / "4_grey_alpha.png")
    indexed = Image.new("P", (8, 6), 1)
    indexed.putpalette([9, 9, 9, 250, 0, 0])
    indexed.paste(0, (4, 0, 8, 6))
    indexed.save(place / "5_palette.png", transparency=0)
    Image.fromarray(np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)).save(place / "6_floats.tif")
    images, mask, _ = load_images("f")
    exact = torch.from_numpy(ramp.astype(np.float32) / 65535)
    assert (images[0] - exact[..., None]).abs().max() < 1e-6, "all sixteen bits"
    assert (images[1, ..., 0] - exact).abs().max() < 1 / 255 and (images[5, ..., 1] - exact).abs().max() < 1e-3
    half = torch.zeros(6, 8)
    half[:, 4:] = 1
    assert torch.equal(mask[4], half) and not mask[[0, 1, 5]].any()
    for index in (2, 3):
        assert torch.equal(mask[index], half * (1 - torch.tensor(80) / 255))
        assert (images[index] - 80 / 255).abs().max() < 1e-6
    assert images[4, 0, 0].tolist() == pytest.approx([250 / 255, 0, 0])


def test_the_first_image_rules_and_cameras_are_heeded(folders):
    place = folders / "input" / "f"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, so 8 x 6 becomes 6 x 8
    save(place / "1.jpg", pictures(1, 6, 8)[0], exif=exif)
    wide = np.zeros((40, 90, 4), np.uint8)
    wide[:, 27:63] = 255
    save(place / "2.png", wide)
    images, mask, _ = load_images("f")
    assert images.shape == (2, 8, 6, 3) and images[1].min() > 0.99 and mask[1].max() < 0.01, "the middle only"
    assert images[0, 0, 0, 2] < images[0, -1, 0, 2], "its right half is now below"
    assert load_images("f", width=12)[0].shape == (2, 16, 12, 3)
    assert load_images("f", width=10, height=10)[1].shape == (2, 10, 10)


def test_bad_folders_and_images_are_named(folders):
    place = folders / "input" / "f"
    place.mkdir()
    with pytest.raises(ValueError, match="folder f holds no images"):
        load_images("f")
    save(place / "1.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="f holds only one image: lower skip_first_frames"):
        load_images("f", skip_first_frames=1)
    whole = (place / "1.png").read_bytes()
    for broken in (b"no image", b"", whole[:4000], whole[:60]):
        (place / "2.png").write_bytes(broken)
        with pytest.raises(ValueError, match="2.png cannot be read as an image"):
            load_images("f")
    assert "missing" in LoadImageSequence.VALIDATE_INPUTS(folder="g")
    assert "outside" in LoadImageSequence.VALIDATE_INPUTS(folder="../input_other")


def graph(name, combine=None, **changes):
    combine = {
        "frame_rate": ["1", 2],
        "loop_count": 0,
        "filename_prefix": "load/clip",
        "format": "video/ProRes",
        "crf": 0,
        "pingpong": False,
        "save_output": True,
        **(combine or {}),
    }
    return {
        "1": {"class_type": "AnimaticLoadVideo", "inputs": {"video": name, "force_rate": 0.0, **ALL, **changes}},
        "2": {"class_type": "AnimaticVideoCombine", "inputs": {"images": ["1", 0], "audio": ["1", 1], **combine}},
    }


def saved(host, workflow):
    return Path(host.render(workflow)["2"]["gifs"][0]["fullpath"])


def frames_of(path, height=48, width=64):
    raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def test_frames_rate_and_sound_pass_through_the_host(host):
    source = clip(host.base / "input" / "through.mov", sound=True)
    path = saved(host, graph("through.mov", select_every_nth=2, skip_first_frames=4))
    frames = frames_of(path)
    assert len(frames) == 10 and np.abs(frames.astype(int) - source[4::2]).mean() < 3
    raw = np.frombuffer(ffmpeg("-i", path, "-f", "f32le", "-"), "<f4")
    assert len(raw) / 44100 == pytest.approx(10 / 12, abs=0.001)
    assert np.abs(raw[:14000]).max() > 0.1 and np.abs(raw[16000:]).max() < 0.01, "heard until 0.5 - 4 / 24 s"
    reader = imageio_ffmpeg.read_frames(str(path))
    assert next(reader)["fps"] == pytest.approx(12)
    reader.close()


def test_no_sound_passes_too(host):
    clip(host.base / "input" / "mute.mov", 3)
    assert len(frames_of(saved(host, graph("mute.mov")))) == 3


@pytest.mark.parametrize("name", ["../server.log", "/etc/passwd", "C:\\x.mp4", "missing.mp4", "../x.mp4 [output]"])
def test_refused_names_are_bad_requests(host, name):
    refused = host.failure(graph(name))
    assert refused.startswith("/prompt was refused (400)")
    assert re.search("outside of ComfyUI's folders|is missing", refused)


def upload(host, path, subfolder):
    with path.open("rb") as file:
        form = {"image": file, "subfolder": subfolder, "type": "input"}
        return json.loads(host.client.request("POST", "/upload/image", data=form))


@pytest.mark.parametrize("subfolder", ["", "from/phone"])
def test_an_uploaded_file_is_loaded(host, tmp_path, subfolder):
    name = f"up_{time.time_ns()}.mp4"
    clip(tmp_path / name, 5, ("-c:v", "libx264", "-pix_fmt", "yuv420p"))
    entry = upload(host, tmp_path / name, subfolder)
    name = "/".join(filter(None, (entry["subfolder"], entry["name"])))
    assert len(frames_of(saved(host, graph(f"{name} [input]")))) == 5
    info = host.client.get("/object_info/AnimaticLoadVideo")["AnimaticLoadVideo"]["input"]["required"]["video"]
    assert name in info[0] and info[1]["video_upload"]


def test_broken_files_leave_a_working_server(host):
    place = host.base / "input"
    clip(place / "whole.mp4", 24, ("-c:v", "libx264", "-pix_fmt", "yuv420p"))
    (place / "cut.mp4").write_bytes((place / "whole.mp4").read_bytes()[:1500])
    (place / "text.mp4").write_text("hello")
    for name in ("cut.mp4", "text.mp4"):
        assert f"AnimaticLoadVideo: {name} is not a video, or it is damaged" in host.failure(graph(name))
    assert "skip_first_frames 99" in host.failure(graph("whole.mp4", skip_first_frames=99))
    assert len(frames_of(saved(host, graph("whole.mp4")))) == 24


def children(host):
    """The processes that the host has started and that have a command line by now."""
    running = psutil.Process(host.served.process.pid).children(recursive=True)
    return [child for child in running if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_interrupt_while_frames_are_skipped(host):
    place = host.base / "input"
    clip(place / "part.mkv", 2, ("-c:v", "ffv1"), height=720, width=1280)
    ffmpeg("-stream_loop", "400", "-i", place / "part.mkv", "-c", "copy", place / "skipped.mkv")
    decoding = []

    def while_it_decodes(message):
        if message["type"] == "executing" and message["data"]["node"] == "1":
            while not decoding:  # the file itself takes minutes
                decoding.extend(child for child in children(host) if "skipped.mkv" in " ".join(child.cmdline()))
        return bool(decoding)

    host.interrupt(graph("skipped.mkv", skip_first_frames=10**6), when=while_it_decodes)
    psutil.wait_procs(decoding, timeout=60)
    assert not any(child.is_running() for child in decoding), "the decoder was stopped in the middle of its work"
    clip(place / "after.mov", 2)
    assert len(frames_of(saved(host, graph("after.mov")))) == 2


def test_images_come_out_as_they_went_in(host):
    source = pictures(12)
    for index, frame in enumerate(source):
        save(host.base / "input" / "numbered" / f"{index + 1}.png", frame)
    workflow = graph("", {"format": "image/png", "frame_rate": 8.0}, skip_first_frames=1)
    workflow["1"]["class_type"] = "AnimaticLoadImageSequence"
    workflow["1"]["inputs"].update(folder="numbered")
    del workflow["2"]["inputs"]["audio"], workflow["1"]["inputs"]["video"], workflow["1"]["inputs"]["force_rate"]
    folder = saved(host, workflow)
    written = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])
    assert np.array_equal(written, source[1:])
    again = {**workflow, "1": {**workflow["1"], "inputs": {**workflow["1"]["inputs"]}}}
    again["1"]["inputs"].update(folder=f"load/{folder.name} [output]", skip_first_frames=10)
    assert len(list(saved(host, again).iterdir())) == 1
