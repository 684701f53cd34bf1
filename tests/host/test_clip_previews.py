"""The sampler's preview shows the clip, drawn by the host's own callback, and changes no result."""

from animatic_pack.nodes.host.core.preview import contact_sheet
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from comfy.cli_args import LatentPreviewMethod, args
import comfy.sample
import comfy.utils
from host_models import conditioning, image_model, motion_module_of
import latent_preview
import numpy as np
import pytest
import torch

SIZE, STEPS = (4, 6), 3


@pytest.fixture(scope="module")
def models():
    plain = image_model()
    animated = apply_motion_module(plain, motion_module_of("v3", modules=2), MotionSettings("v3"), "use existing")
    return plain, animated


@pytest.fixture
def shown(monkeypatch):
    """Pictures that the host would send."""
    pictures = []
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda step, total, preview, **_: pictures.append(preview and preview[1])
    )
    return pictures


def run(model, frames=5, kept=None, callback=None):
    noise = torch.randn(frames, 4, *SIZE, generator=torch.Generator().manual_seed(1))
    callback = callback or latent_preview.prepare_callback(model, STEPS, kept)
    conds, latent = (conditioning(seed=1), conditioning(seed=2)), torch.zeros_like(noise)
    return comfy.sample.sample(
        model, noise, STEPS, 4.0, "euler", "normal", *conds, latent, seed=1, disable_pbar=True, callback=callback
    )


def test_each_frame_is_in_the_picture_and_the_result_stays(models, shown, monkeypatch):
    animated, kept, truth = models[1], {}, []
    result = run(animated, kept=kept)
    sheets = list(shown)
    expected = run(animated, callback=lambda step, x0, x, total: truth.append(x0))
    assert torch.equal(result, expected) and torch.equal(kept["x0"], truth[-1])  # SamplerCustom's denoised output
    previewer = latent_preview.get_previewer(torch.device("cpu"), animated.model.latent_format)
    assert len(sheets) == STEPS
    for sheet, x0 in zip(sheets, truth, strict=True):
        sheet = np.asarray(sheet)
        assert sheet.shape == (2 * SIZE[0], 3 * SIZE[1], 3)
        for frame in range(5):
            row, column = divmod(frame, 3)
            cell = sheet[row * SIZE[0] :, column * SIZE[1] :][: SIZE[0], : SIZE[1]]
            assert np.array_equal(cell, np.asarray(previewer.decode_latent_to_preview(x0[frame : frame + 1])))


def test_stills_and_callbacks_of_others_get_what_they_did(models, shown):
    plain, animated = models
    run(animated, frames=1)
    run(plain)
    assert {np.asarray(picture).shape[:2] for picture in shown} == {SIZE}
    seen = []
    run(animated, callback=lambda step, x0, x, total: seen.append(x0.shape))
    assert set(seen) == {(5, 4, *SIZE)}


def test_no_previews_stay_none(models, shown, monkeypatch):
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.NoPreviews)
    run(models[1])
    assert set(shown) == {None}


def test_long_clips_and_taesd(monkeypatch):
    latents = torch.arange(100.0)[:, None, None, None].expand(100, 4, 64, 64)
    sheet = contact_sheet(latents)
    assert sheet.shape == (1, 4, 256, 256)
    assert sheet[0, 0, ::64, ::64].flatten().tolist() == [round(99 * i / 15) for i in range(16)]
    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.TAESD)
    assert contact_sheet(latents).shape == (1, 4, 128, 128)
    assert contact_sheet(latents[:3, :, :32, :16]).shape == (1, 4, 64, 32)
