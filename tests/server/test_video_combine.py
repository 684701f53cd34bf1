"""Video Combine in a served ComfyUI: every format, a preview that plays, and nothing broken left behind."""

import math
from pathlib import Path
import re

import pytest

FORMATS = ["video/h264-mp4", "video/h265-mp4", "video/webm", "video/ProRes", "image/gif", "image/webp", "image/png"]


def combine(prefix="formats/clip", width=65, height=47, count=5, **inputs):
    settings = {
        "images": ["1", 0],
        "frame_rate": 8.0,
        "loop_count": 0,
        "filename_prefix": prefix,
        "format": "video/h264-mp4",
        "crf": 19,
        "pingpong": False,
        "save_output": True,
        **inputs,
    }
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": width, "height": height, "batch_size": count, "color": 0x336699},
        },
        "9": {"class_type": "AnimaticVideoCombine", "inputs": settings},
    }


def files(host, folder="output"):
    return sorted(p for p in (host.base / folder).rglob("*") if p.is_file())


@pytest.mark.parametrize("name", FORMATS)
def test_format(host, name):
    output = host.render(combine(format=name))["9"]
    saved, shown = output["gifs"][0], output["images"][0]
    assert Path(saved["fullpath"]).exists() and Path(saved["fullpath"]).parent == host.base / "output" / "formats"
    assert output["animated"] == [True]
    assert shown["filename"].endswith((".mp4", ".webm", ".webp")), "what every browser plays"
    query = f"/view?filename={shown['filename']}&subfolder={shown['subfolder']}&type={shown['type']}"
    assert len(host.client.request("GET", query)) > 100
    if shown["filename"] != saved["filename"]:
        assert shown["type"] == "temp"


@pytest.mark.parametrize("name", FORMATS)
def test_the_workflow_is_in_the_file_only_if_wanted(host, name):
    holds = {}
    for wanted in (True, False):
        output = host.render(combine(format=name, save_metadata=wanted))["9"]
        path = Path(output["gifs"][0]["fullpath"])
        written = [path] if path.is_file() else sorted(path.iterdir())
        holds[wanted] = [b"EmptyImage" in file.read_bytes() for file in written]
    assert all(holds[True]) and not any(holds[False])


def test_names_count_up_and_folders_do_too(host):
    rendered = [
        host.render(combine("count/up", format=name, crf=crf)) for name in ("image/gif", "image/png") for crf in (1, 2)
    ]
    numbers = [number_of(outputs["9"]["gifs"][0]) for outputs in rendered]
    assert numbers == list(range(numbers[0], numbers[0] + 4))


def number_of(saved: dict) -> int:
    """The folder is kept from run to run, so it may be any."""
    return int(re.search(r"up_(\d{5})_", saved["fullpath"])[1])


def test_pingpong_sound_and_repeats(host):
    workflow = combine("sound/clip", pingpong=True, loop_count=1, audio=["2", 0])
    workflow["2"] = {"class_type": "EmptyAudio", "inputs": {"duration": 1.0, "sample_rate": 44100, "channels": 2}}
    assert Path(host.render(workflow)["9"]["gifs"][0]["fullpath"]).stat().st_size > 500


def test_preview_only_goes_to_temp(host):
    before = files(host)
    saved = host.render(combine("quick/look", save_output=False))["9"]["gifs"][0]
    assert saved["type"] == "temp" and files(host) == before


@pytest.mark.parametrize("name", FORMATS)
def test_prefix_that_looks_like_a_sequence(host, name):
    before = files(host)
    saved = host.render(combine("odd/100%done a%03d", format=name))["9"]["gifs"][0]
    new = [p for p in files(host) if p not in before]
    assert new and all(str(p).startswith(saved["fullpath"]) for p in new)


def test_prefix_cannot_leave_the_output_folder(host):
    for prefix in ("../../outside", "/tmp/outside"):
        assert "outside the output folder" in host.failure(combine(prefix))


@pytest.mark.parametrize("name", ["a" * 300, "b" * 230 + "/clip", "\u6620" * 100])
def test_prefix_that_no_disk_takes_is_named(host, name):
    before = files(host)
    failure = host.failure(combine(f"sub/{name}"))
    assert "filename_prefix: '" in failure and "Shorten it" in failure
    assert files(host) == before
    assert host.render(combine("c" * 220, format="video/ffv1-mkv"))["9"]["gifs"]


def test_numbers_that_json_does_not_have_are_refused(host):
    failure = host.failure(combine(frame_rate=math.nan))
    assert "Video Combine: frame_rate is no number (nan)" in failure


def test_frames_that_the_format_cannot_hold_are_refused(host):
    failure = host.failure(combine("tiny", 8, 8, format="video/h265-mp4"))
    assert "at least 16 pixels" in failure and "8 x 8" in failure


def test_bad_settings_are_refused_before_anything_runs(host):
    assert "value_not_in_list" in host.failure(combine(format="video/none"))
    assert "bigger_than_max" in host.failure(combine(crf=99))
    assert "smaller_than_min" in host.failure(combine(frame_rate=0.0))


def test_interrupt_leaves_no_file(host):
    before, temp = files(host), files(host, "temp")
    long = combine("cut/short", 512, 512, 300, format="video/webm", crf=5)
    host.interrupt(long, when=lambda message: message["type"] == "progress" and message["data"]["value"] >= 5)
    assert files(host) == before and files(host, "temp") == temp
    assert host.render(combine("cut/again"))["9"]["gifs"]


def test_three_hundred_frames(host):
    output = host.render(combine("long/clip", 64, 64, 300))["9"]
    assert Path(output["gifs"][0]["fullpath"]).exists()
