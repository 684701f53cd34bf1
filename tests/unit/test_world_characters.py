"""Characters are where their keypoints are, in their colours; measures of their clips tell right from wrong."""

from animatic_pack.animate_anyone.drawn_poses import figure_box
from animatic_pack.evaluation.world.characters import (
    COLOURS,
    LEFT_ANKLE,
    LEFT_WRIST,
    NOSE,
    RIGHT_WRIST,
    SIZE,
    STANDING,
    draw_character,
    draw_dance,
    paint,
    skeletons,
)
from animatic_pack.evaluation.world.copying import Wanted, likeness, overlap
from animatic_pack.evaluation.world.dancing import LOOK, NOTHING, DancingClips
from animatic_pack.training.trainer import TrainingSettings
import numpy as np
import pytest
import torch

FRAMES = 8


def test_a_dance_is_the_same_whenever_it_is_asked_for():
    assert np.array_equal(draw_dance(1, 4).keypoints(0.3), draw_dance(1, 4).keypoints(0.3))
    assert not np.array_equal(draw_dance(1, 4).keypoints(0.3), draw_dance(1, 4).keypoints(0.6))
    assert torch.equal(draw_character(1, 4).colours, draw_character(1, 4).colours)
    assert not torch.equal(draw_character(1, 4).colours, draw_character(1, 5).colours)


@pytest.mark.parametrize("number", range(20))
def test_dancers_stay_in_the_picture_but_for_their_hands(number):
    for moment in np.linspace(0, 1, 9):
        points = draw_dance(0, number).keypoints(moment)[:, :2]
        kept = np.delete(points, (RIGHT_WRIST, LEFT_WRIST), axis=0)
        assert kept.min() > 4 and kept.max() < SIZE - 4
        assert points[NOSE, 1] < points[LEFT_ANKLE, 1]


def test_limbs_keep_their_length():
    dance = draw_dance(0, 1)
    for moment in (0.0, 0.4):
        points = dance.keypoints(moment)
        assert np.linalg.norm(points[3] - points[4]) == pytest.approx(14 * dance.scale, rel=1e-4)


def test_pictures_have_the_characters_colours_where_its_parts_are():
    character, points = draw_character(0, 3), STANDING.keypoints(0.0)
    pictures, shares = paint(character, [points])
    assert torch.allclose(shares.sum(1), torch.ones(1, SIZE, SIZE), atol=1e-5)
    for joint, name in ((RIGHT_WRIST, "skin"), (LEFT_ANKLE, "shoes"), (1, "shirt"), (9, "trousers")):
        x, y = points[joint, :2].round().astype(int)
        assert torch.allclose(pictures[0, y, x], character.colours[COLOURS.index(name)], atol=1e-4)
    assert torch.allclose(pictures[0, 2, 2], character.colours[COLOURS.index("wall")])
    assert torch.allclose(pictures[0, -2, 2], character.colours[COLOURS.index("floor")])


def test_the_skeleton_is_in_the_figure():
    points = draw_dance(0, 2).keypoints(0.2)
    _, shares = paint(draw_character(0, 2), [points])
    ys, xs = torch.where(shares[0, :6].sum(0) > 0.5)
    left, top, right, bottom = figure_box(skeletons([points])[0])
    assert xs.min() - 4 <= left <= right <= xs.max() + 6 and ys.min() - 4 <= top <= bottom <= ys.max() + 6


def test_pairs_are_two_moments_of_a_dance_and_clips_the_whole():
    pairs = DancingClips(0, FRAMES, pairs=True)
    clip = pairs[5]
    assert clip.mean.shape == (2, 4, 16, 16) and not torch.equal(clip.mean[0], clip.mean[1])
    batch = clip.drawn(NOTHING, TrainingSettings(text_dropout=0.0), torch.Generator().manual_seed(0))
    assert batch.latents.shape[1] == 1 and batch.beside["poses"].shape == (1, 1, 3, SIZE, SIZE)
    assert torch.equal(batch.context[0], LOOK)
    assert pairs.unseen(0).mean.shape == (FRAMES, 4, 16, 16)


def test_the_measures_tell_the_reference_and_the_poses_from_others():
    clips = [Wanted.of(draw_character(0, n), draw_dance(0, n), FRAMES) for n in range(6)]
    changed = [Wanted.of(draw_character(0, n + 1), draw_dance(0, n), FRAMES) for n in range(6)]
    moved = [Wanted.of(draw_character(0, n), draw_dance(0, n + 1), FRAMES) for n in range(6)]
    right = [(likeness(one.means, one), overlap(one.means, one)) for one in clips]
    assert min(like for like, _ in right) == pytest.approx(1.0) and min(over for _, over in right) > 0.6
    other_clothes = [(likeness(a.means, b), overlap(a.means, b)) for a, b in zip(changed, clips, strict=True)]
    assert np.mean([like for like, _ in other_clothes]) < 0.5 < np.mean([over for _, over in other_clothes])
    other_poses = [overlap(a.means, b) for a, b in zip(moved, clips, strict=True)]
    assert np.mean(other_poses) < np.mean([over for _, over in right]) - 0.2
