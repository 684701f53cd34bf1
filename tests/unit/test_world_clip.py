"""The small world's own CLIP: its loss, and that it learns which words belong to which picture."""

from animatic_pack.evaluation.world.contrastive import WorldClip, learn_clip, pairs_loss
from animatic_pack.evaluation.world.drawing import draw
from animatic_pack.evaluation.world.scenes import draw_scene
import pytest
import torch
from torch import nn

SCENES = [draw_scene(3, number) for number in range(12)]
CAPTIONS = [scene.caption for scene in SCENES]


@pytest.fixture(scope="module")
def pictures():
    return torch.cat([draw(scene).pictures for scene in SCENES])


@pytest.fixture()
def clip():
    torch.manual_seed(0)
    return WorldClip()


def test_the_loss_is_that_of_clip_with_equal_captions_equally_right(clip, pictures):
    captions = ["a red fish", "night", "a red fish"]
    with torch.no_grad():
        images, texts = clip.images(pictures[:3]), torch.stack([clip.text(caption) for caption in captions])
        cosines = torch.cosine_similarity(images[:, None], texts[None], dim=-1) * clip.scale.exp()
        rows, columns = cosines.log_softmax(1), cosines.log_softmax(0)
        right = [(0, 0, 0.5), (0, 2, 0.5), (2, 0, 0.5), (2, 2, 0.5), (1, 1, 1.0)]
        wanted = -sum(share * (rows[i, j] + columns[i, j]) for i, j, share in right) / 6
        assert float(pairs_loss(clip, pictures[:3], captions)) == pytest.approx(float(wanted), rel=1e-5)


def test_each_picture_comes_to_its_own_words(clip, pictures):
    def nearest() -> list[int]:
        with torch.no_grad():
            texts = nn.functional.normalize(torch.stack([clip.text(caption) for caption in CAPTIONS]), dim=1)
            return (clip.images(pictures) @ texts.T).argmax(1).tolist()

    assert sum(CAPTIONS[found] == own for found, own in zip(nearest(), CAPTIONS, strict=True)) < 6
    optimizer = torch.optim.Adam(clip.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        with torch.enable_grad():
            pairs_loss(clip, pictures, CAPTIONS).backward()
        optimizer.step()
    assert [CAPTIONS[found] for found in nearest()] == CAPTIONS


def test_a_file_goes_on_where_it_was(tmp_path):
    path = tmp_path / "clip.safetensors"
    learnt = learn_clip(path, 0.01)  # a step, hardly more
    assert path.is_file()
    again = learn_clip(path, 0.0)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in learnt.state_dict().items())
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_words_of_no_world_are_said(clip):
    with pytest.raises(ValueError, match="no word of 'zebra'"):
        clip.text("zebra")
