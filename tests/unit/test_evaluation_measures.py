"""What is measured of clips, against cases worked out by hand."""

import math

from animatic_pack.evaluation import quality, scores, similarity
from animatic_pack.evaluation.clips import checked
from animatic_pack.evaluation.flow import steps_of
from animatic_pack.evaluation.scores import Against, evaluate, table
from moving_clips import sliding, texture
import numpy as np
import pytest
import torch

RIGHT, UP, DIAGONAL = torch.eye(2)[0], torch.eye(2)[1], torch.tensor([3.0, 3.0])
HALF = 100 * math.sqrt(0.5)


def mean_colour(clip: torch.Tensor) -> torch.Tensor:
    """An embedding that can be worked out: (F, 3)."""
    return clip.mean((1, 2))


class ColourWords:
    """A CLIP whose pictures are their mean colours, and whose texts are colours' names."""

    images = staticmethod(mean_colour)

    def text(self, prompt: str) -> torch.Tensor:
        return torch.eye(3)[["red", "green", "blue"].index(prompt)]


class Unsure:
    """A CLIP that gives the same number for everything."""

    def __init__(self, words: float = 1.0, pictures: float = math.nan):
        self.word, self.picture = words, pictures

    def images(self, clip: torch.Tensor) -> torch.Tensor:
        return torch.full((len(clip), 3), self.picture)

    def text(self, prompt: str) -> torch.Tensor:
        return torch.full((3,), self.word)


# ------------------------------------------------------------------------------------------------------- embeddings


def test_clip_measures_by_hand():
    frames = torch.stack((RIGHT, UP, DIAGONAL))
    assert similarity.text_alignment(frames, 5 * RIGHT).tolist() == pytest.approx([100, 0, HALF])
    domain = similarity.domain_similarity(frames, torch.stack((RIGHT, -UP)))
    assert domain.flatten().tolist() == pytest.approx([100, 0, 0, -100, HALF, -HALF])
    assert similarity.smoothness(frames) == pytest.approx((0 + HALF + HALF) / 3)
    assert similarity.consecutive(frames).tolist() == pytest.approx([0, HALF])


def test_smoothness_is_the_mean_over_pairs_whatever_their_order():
    frames = torch.randn(7, 5)
    unit = torch.nn.functional.normalize(frames, dim=1)
    pairs = [100 * float(unit[i] @ unit[j]) for i in range(7) for j in range(i)]
    assert similarity.smoothness(frames) == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    assert similarity.smoothness(frames[torch.randperm(7)]) == pytest.approx(similarity.smoothness(frames))
    assert similarity.consecutive(frames.flip(0)).tolist() == pytest.approx(similarity.consecutive(frames).flip(0))


def test_a_single_frame_has_no_smoothness():
    assert math.isnan(similarity.smoothness(RIGHT[None])) and len(similarity.consecutive(RIGHT[None])) == 0


# ------------------------------------------------------------------------------------------------------------- flow


@pytest.mark.parametrize("pixels", [1, 3])
def test_motion_is_how_far_the_picture_goes(pixels):
    for step in steps_of(sliding(pixels)):
        assert np.median(step.flow, (0, 1)) == pytest.approx((-pixels, 0), abs=0.05)
        assert step.moved == pytest.approx(100 * pixels / 96, rel=0.1)
        assert step.flicker < 0.7, "what moves along the flow does not flicker"


def test_a_frozen_clip_neither_moves_nor_flickers():
    assert [(step.moved, step.flicker) for step in steps_of(texture(64).expand(3, -1, -1, -1))] == [(0, 0)] * 2


def test_flicker_is_what_brightness_adds_to_the_motion():
    still, moving = texture(96) * 0.8, sliding(2) * 0.8
    for clip in (still.repeat(4, 1, 1, 1), moving):
        steady = [step.flicker for step in steps_of(clip)]
        clip[1::2] += 0.1
        for step, before in zip(steps_of(clip), steady, strict=True):
            assert step.flicker == pytest.approx(10, abs=1.5) and before < 0.7


def test_size_does_not_change_what_is_measured():
    small = sliding(2, 3, 128)
    large = torch.nn.functional.interpolate(
        small.permute(0, 3, 1, 2), scale_factor=4.0, mode="bicubic", align_corners=False
    ).permute(0, 2, 3, 1)
    ours, theirs = ([step.moved for step in steps_of(clip.clamp(0, 1))] for clip in (small, large))
    assert ours == pytest.approx(theirs, rel=0.1)
    assert next(steps_of(large.clamp(0, 1))).flow.shape == (256, 256, 2)


def test_what_is_too_small_for_flow_is_refused():
    with pytest.raises(ValueError, match="16 pixels or more, these have 40 x 12"):
        list(steps_of(torch.zeros(2, 12, 40, 3)))


# ---------------------------------------------------------------------------------------------------------- quality


def test_psnr_and_ssim_by_hand():
    truth = torch.full((3, 16, 16, 3), 0.5)
    clip = truth + torch.tensor([0.0, 0.1, -0.01])[:, None, None, None]
    assert quality.psnr(clip, truth).tolist() == pytest.approx([math.inf, 20, 40], abs=1e-4)
    c1 = 0.01**2  # without variance only the means count
    expected = [(2 * 0.5 * m + c1) / (0.25 + m * m + c1) for m in (0.5, 0.6, 0.49)]
    assert quality.ssim(clip, truth).tolist() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_the_inverted_picture_is_negative():
    picture = texture(48)[None]
    assert quality.ssim(picture, picture).item() == pytest.approx(1)
    assert quality.ssim(1 - picture, picture).item() < -0.2
    noisy = (picture + 0.1 * torch.randn(picture.shape)).clamp(0, 1)
    assert 0 < quality.ssim(noisy, picture).item() < 0.9


def test_ssim_is_scikit_images():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    clip, truth = torch.rand(2, 24, 32, 3), torch.rand(2, 24, 32, 3)
    options = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for ours, x, y in zip(quality.ssim(clip, truth), clip.double().numpy(), truth.double().numpy(), strict=True):
        theirs = metrics.structural_similarity(x, y, data_range=1.0, **options)
        assert ours.item() == pytest.approx(theirs, abs=1e-5)
    theirs = metrics.peak_signal_noise_ratio(truth[0].double().numpy(), clip[0].double().numpy(), data_range=1.0)
    assert quality.psnr(clip, truth)[0].item() == pytest.approx(theirs, abs=1e-5)


def test_psnr_and_ssim_are_torchmetrics():
    image = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics is not installed")
    clip, truth = torch.rand(2, 24, 32, 3), torch.rand(2, 24, 32, 3)
    x, y = (pictures.double().permute(0, 3, 1, 2) for pictures in (clip, truth))
    _, full = image.structural_similarity_index_measure(x, y, data_range=1.0, return_full_image=True)
    inside = full[..., 5:-5, 5:-5].mean((1, 2, 3))  # theirs goes on over the borders, where it mirrors the picture
    assert quality.ssim(clip, truth).tolist() == pytest.approx(inside.tolist(), abs=1e-5)
    for frame, expected in enumerate(quality.psnr(clip, truth).tolist()):
        found = image.peak_signal_noise_ratio(x[frame : frame + 1], y[frame : frame + 1], data_range=1.0)
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_clips_of_different_length_or_size_are_not_compared():
    with pytest.raises(ValueError, match="3 frames of 16 x 12 here, 2 frames of 16 x 12 in the true one"):
        quality.psnr(torch.zeros(3, 12, 16, 3), torch.zeros(2, 12, 16, 3))
    with pytest.raises(ValueError, match="11 x 11 pixels"):
        quality.ssim(torch.zeros(1, 8, 16, 3), torch.zeros(1, 8, 16, 3))


# ---------------------------------------------------------------------------------------------------------- the whole


def test_all_measures_together():
    red, green = (torch.eye(3)[i].expand(1, 32, 32, 3) for i in (0, 1))
    clip = torch.cat((red, red, green))
    found = evaluate(clip, Against("red", [red, green], clip=ColourWords(), truth=clip))
    values = {scores.TEXT: 200 / 3, scores.DOMAIN: 50, scores.BEST: 100, scores.SMOOTH: 100 / 3, scores.NEXT: 50}
    for name, value in values.items():
        assert found.values[name] == pytest.approx(value, abs=1e-4), name
    assert found.values[scores.PSNR] == math.inf and found.values[scores.SSIM] == pytest.approx(1)
    assert found.by_frame[scores.NEXT] == [(1, pytest.approx(100)), (2, pytest.approx(0, abs=1e-6))]
    assert list(found.values) == [name for name in scores.DIGITS if name in found.values], "in the table's order"


def test_the_references_are_embedded_once_for_all_clips():
    seen = []

    def embed(pictures):
        seen.append(len(pictures))
        return mean_colour(pictures)

    clips = [texture(32, seed).expand(frames, 32, 32, 3) for seed, frames in ((1, 2), (2, 3), (3, 4))]
    references = [texture(32, 5).expand(6, 32, 32, 3), texture(24, 6).expand(7, 24, 24, 3)]
    shared = Against(references=references, embed=embed)
    found = [evaluate(clip, shared).by_frame for clip in clips]
    assert sorted(seen) == [2, 3, 4, 6, 7]
    assert found == [evaluate(clip, Against(references=references, embed=embed)).by_frame for clip in clips]


def test_an_embedding_of_its_own_serves_domain_and_smoothness_but_not_the_prompt():
    red = torch.eye(3)[0].expand(2, 32, 32, 3)

    def same(pictures):
        return torch.ones(len(pictures), 4)

    found = evaluate(red, Against("green", [red], embed=same, clip=ColourWords())).values
    assert found[scores.TEXT] == pytest.approx(0) and found[scores.DOMAIN] == pytest.approx(100)
    without = evaluate(red, Against("green", [red])).values
    assert set(without) == {scores.MOTION, scores.FLICKER}, "what cannot be measured is left out"


def test_the_table_says_that_a_still_picture_is_smooth():
    still, moving = texture(96).expand(3, -1, -1, -1), sliding(3)
    against = Against(embed=mean_colour)
    text = table({"still": evaluate(still, against), "moving": evaluate(moving, against)})
    head, _, first, second, empty, note = text.splitlines()
    assert head == "|  | CLIP smooth | CLIP consecutive | motion % | flicker % | camera |"
    assert first == "| still | 100.00 | 100.00 | 0.000 | 0.000 | picture stays (100% of it) |"
    assert "picture moves left 0.0" in second and not empty
    assert note.startswith("still hardly moves")


def test_one_frame_has_neither_motion_nor_smoothness():
    text = table({"one": evaluate(texture(96)[None], Against(embed=mean_colour))})
    assert text.splitlines()[2] == "| one | - | - | - | - | - |"


def test_duplicated_frames_halve_the_motion():
    clip = sliding(2, 5)
    twice = clip.repeat_interleave(2, 0)
    ours, theirs = (evaluate(c, Against()).values[scores.MOTION] for c in (clip, twice))
    assert theirs == pytest.approx(ours * 4 / 9, rel=1e-3), "four steps of nine move"


def test_a_clip_played_backwards_or_inverted_moves_as_much():
    clip = sliding(3, 5)
    ours, backwards, inverted = (evaluate(c, Against(embed=mean_colour)) for c in (clip, clip.flip(0), 1 - clip))
    for other in (backwards, inverted):
        assert other.values[scores.MOTION] == pytest.approx(ours.values[scores.MOTION], rel=0.01)
        assert other.values[scores.FLICKER] == pytest.approx(ours.values[scores.FLICKER], abs=0.02)
    assert backwards.values[scores.NEXT] == pytest.approx(ours.values[scores.NEXT])
    assert ours.camera.move.pan == pytest.approx(-backwards.camera.move.pan, rel=0.02)
    assert ours.camera.move.pan == pytest.approx(inverted.camera.move.pan, rel=0.02)


def test_shuffled_frames_move_more_and_are_as_smooth_over_all_pairs():
    clip = sliding(2, 6)
    shuffled = clip[[0, 3, 1, 5, 2, 4]]
    ours, theirs = (evaluate(c, Against(embed=lambda p: p[:, ::8, ::8].flatten(1))).values for c in (clip, shuffled))
    assert theirs[scores.SMOOTH] == pytest.approx(ours[scores.SMOOTH])
    assert theirs[scores.NEXT] < ours[scores.NEXT] and theirs[scores.MOTION] > 1.5 * ours[scores.MOTION]


# ------------------------------------------------------------------------------------------------------- what comes in


def test_alpha_lies_on_black():
    clip = torch.ones(2, 4, 4, 4)
    clip[1, ..., 3] = 0.25
    assert checked(clip, "x")[:, 0, 0].tolist() == [[1, 1, 1], [0.25, 0.25, 0.25]]


def test_what_is_no_clip_is_named():
    with pytest.raises(ValueError, match=r"mine: pictures are .* not \(4, 4, 3\)"):
        checked(torch.zeros(4, 4, 3), "mine")
    broken = torch.zeros(3, 4, 4, 3)
    broken[2, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="mine: frame 2 holds numbers that are not finite"):
        checked(broken, "mine")
    with pytest.raises(ValueError, match=r"mine: colours are numbers from 0 to 1, not torch\.uint8"):
        checked(torch.full((3, 4, 4, 3), 255, dtype=torch.uint8), "mine")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_kinds_of_numbers_give_the_same_measures(kind):
    clip = sliding(2).to(torch.bfloat16)
    against = Against(embed=mean_colour, truth=clip.float().flip(0))
    assert evaluate(clip.to(kind), against).values == pytest.approx(evaluate(clip.float(), against).values, rel=1e-3)


def test_embeddings_that_are_no_numbers_are_not_left_out_of_a_mean():
    def broken(pictures):
        return torch.where(pictures.mean((1, 2)) > 0.7, torch.nan, 1.0)

    clip = torch.stack((torch.full((32, 32, 3), 0.5), torch.ones(32, 32, 3)))
    for against, what in (
        (Against(embed=broken), "mine"),
        (Against(clip=Unsure()), "mine"),
        (Against("red", clip=Unsure(math.nan, 1.0)), "the prompt"),
        (Against(embed=broken, references=[torch.ones(1, 9, 9, 3)]), "the references"),
    ):
        with pytest.raises(ValueError, match=f"CLIP gave numbers for {what} that are not finite"):
            evaluate(clip if what == "mine" else clip[:1], against, "mine")
