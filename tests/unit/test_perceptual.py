"""LPIPS with random weights, against the same layers from torchvision's own AlexNet."""

from animatic_pack.evaluation import scores
from animatic_pack.evaluation.perceptual import ALEXNET, LINEAR, lpips, read_lpips
from animatic_pack.evaluation.scores import Against, evaluate
from moving_clips import sliding
import pytest
import torch

CHANNELS = (64, 192, 384, 256, 256)
COLOURS = torch.tensor([[-0.030, 0.458], [-0.088, 0.448], [-0.188, 0.450]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files as torchvision and lpips publish them, the first without its classifier, which nobody reads."""
    from torchvision.models import alexnet

    folder = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(3)
    features = alexnet().features
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, folder / ALEXNET)
    linear = {f"lin{n}.model.1.weight": torch.rand(1, c, 1, 1) for n, c in enumerate(CHANNELS)}
    torch.save(linear, folder / LINEAR)
    return folder


def by_hand(folder, x, y) -> float:
    """One pair of frames (h, w, 3), by torchvision's layers in their order."""
    from torchvision.models import alexnet

    layers, linear = alexnet().features, torch.load(folder / LINEAR, weights_only=True)
    weights = torch.load(folder / ALEXNET, weights_only=True)
    layers.load_state_dict({key.removeprefix("features."): value for key, value in weights.items()})
    shown = [((2 * p - 1 - COLOURS[:, 0]) / COLOURS[:, 1]).permute(2, 0, 1)[None] for p in (x, y)]
    total, number = 0.0, 0
    for layer in layers:
        shown = [layer(p) for p in shown]
        if isinstance(layer, torch.nn.ReLU):
            unit = [p[0] / (p[0].norm(dim=0) + 1e-10) for p in shown]
            weight = linear[f"lin{number}.model.1.weight"].flatten()[:, None, None]
            total += float(((unit[0] - unit[1]) ** 2 * weight).sum(0).mean())
            number += 1
    return total


def test_it_is_the_sum_over_five_layers(folder):
    clip, truth = torch.rand(2, 72, 80, 3), torch.rand(2, 72, 80, 3)
    found = lpips(read_lpips(folder), clip, truth)
    assert found.tolist() == pytest.approx([by_hand(folder, x, y) for x, y in zip(clip, truth, strict=True)], rel=1e-5)
    assert lpips(read_lpips(folder), clip, clip).tolist() == [0, 0]


def test_it_stands_beside_psnr_and_ssim(folder):
    clip = sliding(2)
    against = Against(truth=clip.roll(1, 0), perceptual=read_lpips(folder))
    found = evaluate(clip, against).values
    assert found[scores.LPIPS] > 0.01 and scores.SSIM in found
    assert scores.LPIPS not in evaluate(clip, Against(truth=clip)).values


def test_what_is_missing_or_wrong_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"LPIPS needs {ALEXNET}"):
        read_lpips(tmp_path)
    (tmp_path / ALEXNET).write_text("<!DOCTYPE html>")
    with pytest.raises(ValueError, match=f"{ALEXNET} cannot be read.* LPIPS needs {ALEXNET}"):
        read_lpips(tmp_path)
    for name in (ALEXNET, LINEAR):
        torch.save({"lin0.model.1.weight": torch.zeros(1, 3, 1, 1)}, tmp_path / name)
    with pytest.raises(ValueError, match="holds other files"):
        read_lpips(tmp_path)
    with pytest.raises(ValueError, match="64 pixels or more"):
        lpips(read_lpips(folder), torch.zeros(1, 32, 80, 3), torch.zeros(1, 32, 80, 3))
