"""`python -m evaluation measure`, and a whole CLIP from a folder."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

from animatic_pack import ROOT
from animatic_pack.evaluation import scores
from animatic_pack.evaluation.clip_folder import ClipFolder
from animatic_pack.evaluation.clips import read_clip, read_pictures
from animatic_pack.evaluation.command_line import main
from moving_clips import sliding
import numpy as np
from PIL import Image
import pytest
from small_clip import write_clip_folder
from small_inputs import write_video
import torch


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return write_clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def clip(tmp_path):
    write_video(tmp_path / "clip.mp4", (sliding(2, 4, 64).numpy() * 255).round().astype(np.uint8), 8)
    return tmp_path / "clip.mp4"


def test_a_clip_folder_gives_transformers_own_score(clip_folder):
    from transformers import CLIPModel

    whole, frames = ClipFolder(clip_folder), torch.rand(20, 40, 56, 3)
    embedded, text = whole.images(frames), whole.text("a red fish")
    model = CLIPModel.from_pretrained(clip_folder)
    pixels = whole.processor(list(frames.permute(0, 3, 1, 2)), do_rescale=False, return_tensors="pt")
    tokens = whole.tokenizer("a red fish", return_tensors="pt", truncation=True, max_length=8)
    both = model(**tokens, **pixels)
    assert torch.allclose(torch.nn.functional.normalize(embedded, dim=-1), both.image_embeds, atol=1e-5)
    assert torch.allclose(torch.nn.functional.normalize(text, dim=-1), both.text_embeds[0], atol=1e-5)
    assert whole.text("a very long prompt that does not fit at all").shape == text.shape


def test_a_folder_without_a_clip_says_what_is_missing(tmp_path, clip_folder):
    with pytest.raises(FileNotFoundError, match="no CLIP folder"):
        ClipFolder(tmp_path)
    (tmp_path / "config.json").write_bytes((clip_folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="holds no whole CLIP"):
        ClipFolder(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("model.safetensors", b"", "holds no whole CLIP"),
        ("model.safetensors", b"<!DOCTYPE html>" * 9, "holds no whole CLIP"),
        ("config.json", b'{"model_type": "bert", "hidden_size": 16}', "holds no whole CLIP"),
        ("vocab.json", None, "neither tokenizer.json nor vocab.json with merges.txt"),
        ("merges.txt", None, "neither tokenizer.json nor vocab.json with merges.txt"),
        ("preprocessor_config.json", None, "holds no whole CLIP"),
    ],
)
def test_a_file_of_the_folder_that_is_missing_or_damaged_is_said(file, content, words, clip_folder, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "copy"))
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        ClipFolder(folder)


def test_measure_prints_a_table_and_writes_every_number(clip, clip_folder, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        Image.new("RGB", (48, 40 + number), (90, 30 * number, 10)).save(frames / f"{number}.png")
    arguments = ["measure", f"mine={clip}", str(clip), "--clip-folder", str(clip_folder), "--prompt", "a fish"]
    arguments += ["--references", str(frames), "--truth", str(clip), "--json", str(tmp_path / "all.json")]
    assert main([*arguments, "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [scores.TEXT, scores.DOMAIN, scores.BEST, scores.SMOOTH, scores.NEXT, scores.MOTION, scores.FLICKER]
    assert lines[0] == f"|  | {' | '.join([*names, scores.PSNR, scores.SSIM])} | camera |"
    assert lines[2].split("|")[2:] == lines[3].split("|")[2:] and lines[2].startswith("| mine |")
    found = json.loads((tmp_path / "all.json").read_text())["mine"]
    assert found["values"][scores.PSNR] is None and found["values"][scores.SSIM] == pytest.approx(1)
    assert len(found["by_frame"][scores.MOTION]) == 3 and found["camera"]["agreement"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["measure", "nowhere.mp4"], "There is no clip"),
        (["measure", "{clip}", "{clip}"], "Two are called clip"),
        (["measure", "{clip}", "--prompt", "x"], "need --clip-folder"),
        (["measure", "{clip}", "--clip-folder", "nowhere"], "no CLIP folder"),
        (["ranking", "nowhere.csv"], "no table"),
        (["page", "x", "a=nowhere"], "two methods"),
    ],
)
def test_mistakes_are_said(arguments, words, clip, capsys):
    assert main([argument.replace("{clip}", str(clip)) for argument in arguments]) == 1
    assert words in capsys.readouterr().err


def test_the_command_runs_from_the_packs_folder(clip):
    command = [sys.executable, "-m", "evaluation", "measure", str(clip)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "moves left" in done.stdout


def test_clips_are_read_from_videos_pictures_and_folders(clip, tmp_path):
    video = read_clip(clip)
    assert video.shape == (4, 64, 64, 3) and (video - sliding(2, 4, 64)).abs().mean() < 0.05
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGBA", (20, 10), (255, 255, 255, 51)).save(folder / "2.png")
    Image.new("RGB", (20, 10), (255, 0, 0)).save(folder / "10.png")
    assert torch.allclose(read_clip(folder)[:, 0, 0], torch.tensor([[0.2] * 3, [1, 0, 0]]))
    Image.new("RGB", (20, 12)).save(folder / "11.png")
    assert [picture.shape[1] for picture in read_pictures(folder)] == [10, 10, 12]
    with pytest.raises(ValueError, match="2 different ones"):
        read_clip(folder)
    with pytest.raises(ValueError, match="holds no pictures"):
        (tmp_path / "empty").mkdir()
        read_pictures(tmp_path / "empty")
