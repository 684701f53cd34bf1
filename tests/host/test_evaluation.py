"""The nodes that measure clips, with CLIPs of the host's and transformers' own classes."""

import json

from animatic_pack.evaluation import scores
from animatic_pack.nodes.evaluation import (
    NO_FOLDER,
    CompareAnimations,
    ContactSheet,
    EvaluateAnimation,
    OpticalFlowPreview,
)
from animatic_pack.nodes.host.evaluation import clip as host_clip
from comfy.clip_vision import ClipVisionModel
import folder_paths
from moving_clips import sliding, texture
import pytest
from small_clip import write_clip_folder
import torch


@pytest.fixture(autouse=True)
def _previews(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    monkeypatch.setattr("animatic_pack.nodes.evaluation.preview_image", lambda image: {"images": [tuple(image.shape)]})


@pytest.fixture(scope="module")
def clip_vision(tmp_path_factory):
    return small_vision(tmp_path_factory.mktemp("clip_vision"), projection_dim=12, model_type="clip_vision_model")


def small_vision(folder, **kind):
    """The host's CLIP_VISION, so small that its loader would not know it."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {**sizes, "hidden_act": "quick_gelu", "image_size": 32, "patch_size": 8, "num_channels": 3}
    (folder / "config.json").write_text(json.dumps({**config, **kind}))
    vision = ClipVisionModel(str(folder / "config.json"))
    for number, weight in enumerate(vision.model.parameters()):
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) * 0.3)
    return vision


@pytest.fixture
def clip_folder(tmp_path, monkeypatch):
    write_clip_folder(tmp_path / "clips" / "small-clip")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "clip_vision", ([str(tmp_path / "clips")], set()))
    return "small-clip"


def test_images_alone_give_what_needs_no_clip():
    shown = EvaluateAnimation().measure(sliding(2, size=128), prompt="", clip_folder=NO_FOLDER)
    text, plot = shown["result"]
    assert [line.split(":")[0] for line in text.splitlines()] == [scores.MOTION, scores.FLICKER, scores.CAMERA]
    assert "moves left 0.0" in text and shown["ui"]["text"] == (text,)
    assert plot.shape[0] == 1 and plot.shape[1] == 2 * 230, "a panel for motion and one for flicker"


def test_a_clip_vision_gives_smoothness_and_domain(clip_vision):
    clip, stills = sliding(3, frames=20), torch.stack([texture(96, seed) for seed in (0, 1)])
    embedded = clip_vision.encode_image(clip)["image_embeds"]
    found = host_clip.image_embedding(clip_vision)(clip)
    assert torch.allclose(found, embedded, atol=1e-6), "in parts as at once"
    shown = EvaluateAnimation().measure(clip, "", NO_FOLDER, clip_vision=clip_vision, reference=stills, truth=clip)
    lines = dict(line.split(": ") for line in shown["result"][0].splitlines())
    assert list(lines)[:4] == [scores.DOMAIN, scores.BEST, scores.SMOOTH, scores.NEXT]
    unit = torch.nn.functional.normalize(embedded.double(), dim=1)
    assert float(lines[scores.NEXT]) == pytest.approx(100 * float((unit[1:] * unit[:-1]).sum(1).mean()), abs=0.006)
    assert float(lines[scores.SSIM]) == 1 and lines[scores.PSNR] == "inf"


def test_a_siglip_which_has_no_embedding_of_a_picture_is_refused(tmp_path):
    siglip = small_vision(tmp_path, model_type="siglip_vision_model")
    with pytest.raises(ValueError, match="none for the whole, as SigLIP does"):
        EvaluateAnimation().measure(sliding(2), "", NO_FOLDER, clip_vision=siglip)


def test_a_clip_folder_reads_the_prompt(clip_folder):
    assert host_clip.clip_folders() == [clip_folder]
    assert clip_folder in EvaluateAnimation.INPUT_TYPES()["required"]["clip_folder"][0]
    text = EvaluateAnimation().measure(sliding(2), "a fish", clip_folder)["result"][0]
    assert text.startswith(f"{scores.TEXT}: ") and scores.SMOOTH in text
    with pytest.raises(FileNotFoundError, match="no folder"):
        host_clip.open_clip_folder("../small-clip/..")


def test_several_clips_make_one_table(clip_vision):
    clips = {"images_1": sliding(2), "images_2": texture(96).expand(3, -1, -1, -1), "images_4": sliding(1, size=64)}
    against = {"prompt": "", "clip_folder": NO_FOLDER}
    shown = CompareAnimations().compare("ours\nstill", clip_vision=clip_vision, **against, **clips)
    (table,) = shown["result"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[:5]]
    assert [row[0] for row in rows[2:]] == ["ours", "still", "images_4"]
    assert rows[3][1:3] == ["100.00", "100.00"] and table.splitlines()[-1].startswith("still hardly moves")
    with pytest.raises(ValueError, match="two clips have the same name"):
        CompareAnimations().compare("a\na", **against, **clips)


def test_what_is_missing_is_said(clip_vision):
    with pytest.raises(ValueError, match="connect a CLIP_VISION"):
        EvaluateAnimation().measure(sliding(2), "", NO_FOLDER, reference=sliding(2))
    with pytest.raises(ValueError, match="choose a clip_folder, or leave the prompt empty"):
        EvaluateAnimation().measure(sliding(2), "a fish", NO_FOLDER, clip_vision=clip_vision)
    with pytest.raises(ValueError, match="images: frame 0 holds numbers that are not finite"):
        EvaluateAnimation().measure(sliding(2) * float("nan"), "", NO_FOLDER)
    with pytest.raises(ValueError, match="two or more"):
        OpticalFlowPreview().show(sliding(2)[:1], 0.0)


def test_the_flow_of_a_pan_has_one_colour():
    shown = OpticalFlowPreview().show(sliding(3, frames=4, size=96), 100 * 3 / 96)
    (pictures,) = shown["result"]
    assert pictures.shape == (3, 96, 96, 3)
    assert pictures.median(0)[0][24:72, 24:72].mean((0, 1)).tolist() == pytest.approx([0, 1, 1], abs=0.1), "to the left"
    assert "moves left" in shown["ui"]["text"][0] and len(shown["ui"]["images"]) == 1


def test_a_contact_sheet_of_every_second_frame():
    (sheet,) = ContactSheet().lay_out(sliding(2, 5), 0, 96, 2, False)["result"]
    assert sheet.shape == (1, 2 * 96 + 12, 2 * 96 + 12, 3)
    (two_rows,) = ContactSheet().lay_out(sliding(2, 5), 3, 48, 1, True)["result"]
    assert two_rows.shape == (1, 2 * 48 + 12, 3 * 48 + 16, 3)
