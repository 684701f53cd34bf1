"""The small world's measures find what its generator did."""

from dataclasses import replace
import math

from animatic_pack.evaluation.camera import likeness, nearest_move
from animatic_pack.evaluation.certainty import mean, share
from animatic_pack.evaluation.world.autoencoder import colours, encode
from animatic_pack.evaluation.world.claims import seen_on
from animatic_pack.evaluation.world.drawing import as_video, draw
from animatic_pack.evaluation.world.measures import camera_move, change, mark_correlation, object_places, see_object
from animatic_pack.evaluation.world.scenes import STYLES, draw_arc, draw_scene
from animatic_pack.training.camera import MOVES
import numpy as np
import pytest
import torch

FRAMES = 8


def seen(scene):
    return see_object(colours(encode(draw(scene, FRAMES).pictures)))


@pytest.mark.parametrize("style", STYLES)
def test_objects_are_found_on_their_way(style):
    for number in range(24):
        scene = draw_scene(11, number, FRAMES, styles=(style,))
        found = seen(scene)
        assert (found.direction, found.colour) == (scene.direction, scene.colour)
        assert found.jitter < 0.3
        assert found.speed == pytest.approx(scene.speed / 8, rel=0.35)  # a tail may still be coming into the picture


def test_half_circles_are_seen_on_their_way():
    drawn = [draw(draw_arc(0, number, FRAMES), FRAMES).pictures for number in range(4)]
    ways = [object_places(clip) for clip in drawn]
    for number, clip in enumerate(drawn):
        scene = draw_arc(0, number, FRAMES)
        seen = object_places(colours(encode(clip)))
        middles = (np.array([scene.middle(frame) for frame in range(FRAMES)]) - 3.5) / 8
        assert np.abs(seen - middles).max() < 2.5  # a comet's tail counts too
        assert seen_on(ways[number], seen) and not seen_on(ways[number], seen[::-1])
    assert not seen_on(ways[0], object_places(torch.zeros(FRAMES, 16, 16, 3)))


def test_what_stays_and_what_is_not_there():
    assert seen(replace(draw_scene(0, 1, FRAMES), speed=0.0)).direction == ""
    bare = seen(draw_scene(0, 1, FRAMES, bare=1.0))
    assert (bare.colour, bare.direction) == ("", "") and bare.jitter == math.inf


def test_a_frozen_clip_does_not_change():
    frames = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    assert change(frames[:1].expand(4, -1, -1, -1)) == change(frames[:1]) == 0.0
    assert change(torch.stack((frames[0], frames[0] + 0.25))) == pytest.approx(25.0, rel=1e-5)


def test_frames_in_another_order_jitter():
    scene = draw_scene(0, 2, FRAMES)
    clip = draw(scene, FRAMES).pictures
    assert see_object(clip[[3, 0, 6, 1, 7, 2, 5, 4]]).jitter > 5 * see_object(clip).jitter


@pytest.mark.parametrize("name", MOVES)
def test_camera_moves_are_measured(name):
    for number in range(3):
        for move in MOVES[name]:
            scene = replace(draw_scene(5, number, FRAMES, bare=1.0), move=move)
            found = camera_move(draw(scene, FRAMES).pictures)
            assert nearest_move(found) == name
            for other in MOVES:
                assert likeness(found, other) == pytest.approx(likeness(move, other), abs=0.12)


def test_the_mark_is_found_where_it_is():
    clips = [draw(draw_scene(9, number, 2), 2).pictures for number in range(12)]
    assert np.mean([mark_correlation(as_video(clip)) for clip in clips]) > 0.85
    assert abs(np.mean([mark_correlation(clip) for clip in clips])) < 0.25


def test_confidence():
    third = share([True] * 10 + [False] * 20)
    assert third.low < 1 / 3 < third.high and third.high - third.low == pytest.approx(0.32, abs=0.03)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(400, generator=generator).tolist()
    estimate = mean(values)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / 20, rel=0.15) and estimate.low < 0 < estimate.high
    assert mean(values) == estimate
