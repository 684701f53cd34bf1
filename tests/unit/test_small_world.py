"""The small world's generator: pictures agree with what is known of them, and with its words."""

from dataclasses import replace

from animatic_pack.evaluation.world.autoencoder import colours, decoder, encode
from animatic_pack.evaluation.world.drawing import SIZE, as_video, draw, watermark
from animatic_pack.evaluation.world.picture_training import learn_decoder, scenes
from animatic_pack.evaluation.world.scenes import COLOURS, DIRECTIONS, STYLES, Scene, draw_scene
from animatic_pack.training.camera import MOVES
import pytest
from safetensors.torch import load_file
import torch
from torch import nn

FRAMES = 8


def moving(number: int = 0, **changes) -> Scene:
    return replace(draw_scene(3, number, FRAMES), **changes)


def warped(picture: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """(H, W, C) as it is read where each pixel of the frame before has gone to."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    places = torch.stack((x, y), dim=-1) + flow
    grid, rows = (2 * places + 1) / SIZE - 1, picture.permute(2, 0, 1)
    return nn.functional.grid_sample(rows[None], grid[None], align_corners=False)[0].permute(1, 2, 0)


def test_a_scene_is_the_same_whenever_it_is_asked_for():
    assert draw_scene(1, 7, FRAMES) == draw_scene(1, 7, FRAMES) != draw_scene(2, 7, FRAMES)
    first, second = draw(draw_scene(1, 7, FRAMES), FRAMES), draw(draw_scene(1, 7, FRAMES), FRAMES)
    assert torch.equal(first.pictures, second.pictures)


@pytest.mark.parametrize("num_frames", (1, 8, 16))
def test_objects_stay_in_the_picture(num_frames):
    for number in range(50):
        scene = draw_scene(0, number, num_frames)
        for frame in (0, num_frames - 1):
            assert all(25 < place < SIZE - 25 for place in scene.middle(frame))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", ("comet", "fish"))
def test_a_still_shows_where_the_object_is_going(kind, direction):
    """Its middle is ahead of its mask's: tails are behind."""
    scene = moving(kind=kind, direction=direction, start=(64.0, 64.0), speed=0.0)
    mask = draw(scene).masks[0]
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    behind = torch.stack(((mask * (x - 64)).sum(), (mask * (y - 64)).sum())) / mask.sum()
    ahead = torch.tensor(DIRECTIONS[direction])
    assert behind @ ahead < -3 and abs(behind @ ahead.flip(0)) < 0.3


@pytest.mark.parametrize("style", STYLES)
def test_the_object_has_its_colour_where_the_mask_is(style):
    for colour in COLOURS:
        drawn = draw(moving(colour=colour, style=style))
        inside = drawn.pictures[0][drawn.masks[0] > 0.99]
        brightest = inside[inside.sum(dim=1).topk(50).indices].mean(dim=0)
        distance = {name: (brightest - torch.tensor(value)).norm() for name, value in COLOURS.items()}
        assert min(distance, key=distance.get) == colour and distance[colour] < 0.45


def test_masks_move_as_the_scene_says():
    scene = moving(1, kind="fish")
    masks = draw(scene, FRAMES).masks
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    middles = torch.stack([(masks * axis).sum((1, 2)) / masks.sum((1, 2)) for axis in (x, y)], dim=1)
    way = torch.tensor(scene.heading) * scene.speed
    assert torch.allclose(middles.diff(dim=0), way.expand(FRAMES - 1, 2), atol=0.3)


@pytest.mark.parametrize("move", MOVES)
def test_flow_leads_to_the_next_picture(move):
    """Also where the camera and an object move at once."""
    scene = moving(2, move=MOVES[move][1])
    drawn = draw(scene, FRAMES)
    inner = slice(28, SIZE - 28)
    for frame in (0, FRAMES - 2):
        back = warped(drawn.pictures[frame + 1], drawn.flow[frame])
        mask = warped(drawn.masks[frame + 1][..., None], drawn.flow[frame])[..., 0]
        seen = ((mask - drawn.masks[frame]).abs() < 0.01)[inner, inner]  # in both: what moves covers some ground
        change = (drawn.pictures[frame + 1] - drawn.pictures[frame]).abs()[inner, inner][seen].mean()
        left = (back - drawn.pictures[frame]).abs()[inner, inner][seen].mean()
        assert seen.float().mean() > 0.8 and left < 0.1 * change


def test_what_moves_is_nearer_than_the_ground():
    drawn = draw(moving(), 2)
    assert drawn.depth[drawn.masks > 0.99].min() > drawn.depth[drawn.masks == 0].max()


def test_bare_ground_says_nothing_of_the_camera():
    scenes = [draw_scene(0, number, FRAMES, bare=1.0) for number in range(40)]
    assert all(scene.caption == scene.ground for scene in scenes)
    assert len({scene.move.picture_motion().split()[1] for scene in scenes}) >= 3


def test_videos_have_the_mark_and_stills_do_not():
    pictures = draw(moving()).pictures
    video = as_video(pictures)
    mark = watermark() > 0
    assert (video[0][mark].mean() - pictures[0][mark].mean()) > 0.3
    edges = [picture[:80].diff(dim=1).abs().max() for picture in (pictures[0], video[0])]
    assert edges[1] < 0.6 * edges[0]


def test_latents_keep_mean_colours():
    pictures = draw(moving(), 2).pictures
    means = nn.functional.avg_pool2d(pictures.permute(0, 3, 1, 2), 8).permute(0, 2, 3, 1)
    assert torch.allclose(colours(encode(pictures)), means, atol=1e-5)


def test_a_new_decoder_enlarges_smoothly():
    pictures = draw(moving(), 2).pictures
    drawn = decoder()(encode(pictures)).permute(0, 2, 3, 1)
    inner = slice(8, SIZE - 8)
    assert (drawn - pictures)[:, inner, inner].abs().mean() < 0.03 < pictures.std()


def test_a_decoder_goes_on_from_its_file(tmp_path):
    path = tmp_path / "decoder.safetensors"
    learn_decoder(path, 0.01, scenes)
    first = load_file(path)
    assert first["step"] == 1
    assert not torch.equal(first["1.weight"], decoder()[1].weight)
    learn_decoder(path, 0.01, scenes)
    assert load_file(path)["step"] == 1  # it has had its time
    learn_decoder(path, first["seconds"].item() + 0.01, scenes)
    assert load_file(path)["step"] == 2
