"""FVD: the distance against closed forms, I3D with random weights against its definition, and the command."""

import json
import logging
import math

from animatic_pack.evaluation.command_line import main
from animatic_pack.evaluation.frechet import frechet_distance
from animatic_pack.evaluation.i3d import I3d, logits_of, read_i3d
from moving_clips import texture
import numpy as np
from PIL import Image
import pytest
from safetensors.torch import save_file
from small_inputs import write_video
import torch
from torch.nn import Linear, functional

FRAMES = 9
CALM = 1e-3  # what TensorFlow's I3D adds to variances

# ------------------------------------------------------------------------------------------------------- the distance


def with_moments(mean: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """Samples (2 D, D) of exactly this mean, and of the covariance root' root."""
    size = len(mean)
    unit = torch.cat((torch.eye(size), -torch.eye(size))).double() * math.sqrt((2 * size - 1) / 2)
    return mean + unit @ root


def test_along_the_axes_it_is_that_of_means_and_deviations():
    means = torch.tensor([[1.0, 2, 3], [0, 2, 5]]).double()
    deviations = torch.tensor([[1.0, 2, 0], [3, 2, 0.5]]).double()
    ours, theirs = (with_moments(m, d.diag()) for m, d in zip(means, deviations, strict=True))
    assert frechet_distance(ours, theirs) == pytest.approx((1 + 0 + 4) + (4 + 0 + 0.25), rel=1e-9)


def test_across_the_axes_it_is_the_closed_form_of_two_dimensions():
    """tr (C1 C2)^(1/2) = (tr(C1 C2) + 2 det(C1 C2)^(1/2))^(1/2); these two do not commute."""
    roots = torch.tensor([[[2.0, 1], [0, 1]], [[1, 0], [-3, 2]]]).double()
    one, two = (root.T @ root for root in roots)
    shared = math.sqrt(torch.trace(one @ two) + 2 * math.sqrt(torch.det(one) * torch.det(two)))
    ours, theirs = (with_moments(torch.zeros(2).double(), root) for root in roots)
    expected = float(torch.trace(one) + torch.trace(two)) - 2 * shared
    assert frechet_distance(ours, theirs) == pytest.approx(expected, rel=1e-9)


def test_of_two_samples_each_by_hand():
    (a, b), (c, d) = torch.randn(2, 2, 400).double()
    one, two = a - b, c - d
    between = float(((a + b - c - d) / 2).square().sum())
    expected = between + float(one.square().sum() + two.square().sum()) / 2 - abs(float(one @ two))
    assert frechet_distance(torch.stack((a, b)), torch.stack((c, d))) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [2, 30, 200])
def test_equal_sets_have_none_in_any_order_and_however_few(count):
    features = 10 * torch.randn(count, 100)
    assert frechet_distance(features, features[torch.randperm(count)]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, features + 1) == pytest.approx(100, rel=1e-5)
    assert frechet_distance(features, -features) > 1, "inverted"


def test_it_is_what_the_square_root_of_the_covariances_product_gives():
    from scipy.linalg import sqrtm

    ours, theirs = torch.randn(60, 12).double(), torch.randn(50, 12).double() @ torch.randn(12, 12).double() + 0.3
    one, two = ours.T.cov().numpy(), theirs.T.cov().numpy()
    root = np.real(sqrtm(one @ two))
    means = float((ours.mean(0) - theirs.mean(0)).square().sum())
    assert frechet_distance(ours, theirs) == pytest.approx(means + np.trace(one + two - 2 * root), rel=1e-7)


def test_it_is_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is not installed")
    ours, theirs = torch.randn(60, 12).double(), 2 * torch.randn(50, 12).double() + 0.3
    expected = fid._compute_fid(ours.mean(0), ours.T.cov(), theirs.mean(0), theirs.T.cov())
    assert frechet_distance(ours, theirs) == pytest.approx(expected.item(), abs=1e-5)


def test_one_sample_has_no_covariance():
    with pytest.raises(ValueError, match="two samples or more, not 1 and 5"):
        frechet_distance(torch.zeros(1, 4), torch.zeros(5, 4))


# -------------------------------------------------------------------------------------------------------- the network

BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
UNITS = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
UNITS += [f"Mixed_{block}.{branch}" for block in BLOCKS for branch in BRANCHES]
KEYS = {f"{unit}.{name}" for unit in UNITS for name in ("conv3d.weight", *(f"bn.{n}" for n in ("weight", "bias")))}
KEYS |= {f"{unit}.bn.running_{name}" for unit in UNITS for name in ("mean", "var")}
KEYS |= {"logits.conv3d.weight", "logits.conv3d.bias"}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """As files hold them: by the names of pytorch-i3d, without the counters that training leaves."""
    torch.manual_seed(2)
    found = {key: value for key, value in I3d().state_dict().items() if not key.endswith("num_batches_tracked")}
    for key, value in found.items():
        if key.endswith("var"):
            value.uniform_(CALM, 1.5)
        elif ".bn." in key:
            value.normal_(0, 0.2).add_(key.endswith("weight"))
    return found


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(weights, path)
    return path


def same(x, kernel, stride, value):
    """TensorFlow's padding, with a value that its pooling never picks."""
    sides = []
    for size, wide, step in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        total = max(0, (math.ceil(size / step) - 1) * step + wide - size)
        sides += [total // 2, total - total // 2]
    return functional.pad(x, sides, value=value)


def pooled(x, kernel, stride):
    return functional.max_pool3d(same(x, kernel, stride, -math.inf), kernel, stride)


def by_hand(w: dict, x: torch.Tensor) -> torch.Tensor:
    def unit(name, x, stride=1):
        kernel = w[f"{name}.conv3d.weight"]
        steps = (stride,) * 3
        x = functional.conv3d(same(x, kernel.shape[2:], steps, 0.0), kernel, stride=steps)
        mean, var, gain, bias = (
            w[f"{name}.bn.{n}"][:, None, None, None] for n in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + CALM).sqrt() * gain + bias).clamp(min=0)

    def mixed(name, x):
        wide = unit(f"{name}.b1b", unit(f"{name}.b1a", x))
        wider = unit(f"{name}.b2b", unit(f"{name}.b2a", x))
        last = unit(f"{name}.b3b", pooled(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat((unit(f"{name}.b0", x), wide, wider, last), 1)

    x = pooled(unit("Conv3d_1a_7x7", x, 2), (1, 3, 3), (1, 2, 2))
    x = pooled(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x)), (1, 3, 3), (1, 2, 2))
    x = pooled(mixed("Mixed_3c", mixed("Mixed_3b", x)), (3, 3, 3), (2, 2, 2))
    for block in ("4b", "4c", "4d", "4e", "4f"):
        x = mixed(f"Mixed_{block}", x)
    x = mixed("Mixed_5c", mixed("Mixed_5b", pooled(x, (2, 2, 2), (2, 2, 2))))
    features = x.unfold(2, 2, 1).mean((3, 4, 5))  # of all places, and of two steps in time
    logits = torch.einsum("oc,nct->not", w["logits.conv3d.weight"][:, :, 0, 0, 0], features)
    return logits.mean(2) + w["logits.conv3d.bias"]


def test_the_network_is_the_published_one(file, weights):
    assert set(weights) == KEYS
    network = read_i3d(file)
    assert sum(weight.numel() for weight in network.parameters()) == 12_697_264
    assert not network.training
    clip = torch.rand(1, 3, 17, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = by_hand(weights, clip)
    assert expected.shape == (1, 400) and expected.std() > 1e-2
    assert torch.allclose(network(clip), expected, atol=1e-5)


def test_nine_frames_are_enough_and_eight_are_not(file):
    network = read_i3d(file)
    assert logits_of(network, torch.rand(FRAMES, 10, 20, 3)).shape == (400,)
    with pytest.raises(RuntimeError):
        logits_of(network, torch.rand(FRAMES - 1, 10, 20, 3))


class Seen(torch.nn.Linear):
    """A network that keeps what it is shown."""

    def forward(self, x):
        self.shown = x
        return x.new_zeros(1, 400)


def test_it_sees_the_whole_picture_as_a_square_in_minus_one_to_one():
    network, clip = Seen(1, 1), torch.zeros(3, 10, 2, 3)
    clip[:, :, 1], clip[1] = 1, 0.25
    logits_of(network, clip)
    first, second, _ = network.shown[0].unbind(1)
    assert network.shown.shape == (1, 3, 3, 224, 224) and torch.allclose(second, torch.tensor(-0.5))
    assert (first[..., 0] == -1).all() and (first[..., -1] == 1).all()
    assert torch.allclose(first, -first.flip(-1), atol=1e-6), "from the left column to the right one"


# ----------------------------------------------------------------------------------------------------------- its file


def test_every_weight_is_used_and_none_may_lack(file, weights, tmp_path):
    loaded = read_i3d(file).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    save_file(weights, tmp_path / "i3d.safetensors")
    assert torch.equal(read_i3d(tmp_path / "i3d.safetensors")["logits"]["conv3d"].bias, weights["logits.conv3d.bias"])
    for changed in (
        {key: value for key, value in weights.items() if key != "Mixed_5c.b3b.bn.bias"},
        {**weights, "Mixed_6a.b0.conv3d.weight": torch.zeros(1)},
        {**weights, "logits.conv3d.bias": torch.zeros(600)},
    ):
        torch.save(changed, tmp_path / "other.pt")
        with pytest.raises(ValueError, match=r"another network\. FVD reads i3d_pretrained_400\.pt"):
            read_i3d(tmp_path / "other.pt")


def test_what_is_no_weights_says_which_file_to_get(tmp_path, file):
    with pytest.raises(FileNotFoundError, match=r"There is no file .* FVD reads i3d_pretrained_400\.pt"):
        read_i3d(tmp_path / "nowhere.pt")
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(Linear(2, 2)).save(path)
    with pytest.raises(ValueError, match=r"is a program \(TorchScript\).*FVD reads i3d_pretrained_400\.pt"):
        read_i3d(path)
    contents = {"empty": b"", "page": b"<!DOCTYPE html><html></html>", "half": file.read_bytes()[: 2**20]}
    for name, content in contents.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        for ending in (".pt", ".safetensors"):
            with pytest.raises(ValueError, match=r"cannot be read: it is damaged, or holds no plain weights"):
                read_i3d(tmp_path / f"{name}{ending}")
    for number, content in enumerate((Linear(2, 2), [torch.zeros(2)], {"step": 3}, {})):
        torch.save(content, tmp_path / f"{number}.pt")
        with pytest.raises(ValueError, match=r"holds no plain weights|something else than weights by their names"):
            read_i3d(tmp_path / f"{number}.pt")


# -------------------------------------------------------------------------------------------------------- the command


class Thumbnail(torch.nn.Linear):
    """In place of I3D: sixteen pixels of each frame."""

    def forward(self, x):
        return x[..., ::56, ::56].flatten(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """`real` and `ours`, each of two folders of frames."""
    root = tmp_path_factory.mktemp("clips")
    for number in range(4):
        place = root / ("real" if number < 2 else "ours") / f"clip {number}"
        place.mkdir(parents=True)
        picture = Image.fromarray((texture(224, number).numpy() * 255).round().astype(np.uint8))
        for frame in range(FRAMES + 2):
            picture.save(place / f"{frame}.png")
    return root


def test_measure_gives_the_distance_of_folders(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("animatic_pack.evaluation.command_line.read_i3d", lambda path: Thumbnail(1, 1))
    arguments = ["measure", f"real={folders / 'real'}", f"ours={folders / 'ours'}", "--truth", str(folders / "real")]
    arguments += ["--fvd", "i3d.pt", "--fvd-frames", str(FRAMES), "--json", str(tmp_path / "fvd.json")]
    assert main([*arguments, "--device", "cpu"]) == 0
    a, b, c, d = (2 * (texture(224, seed) * 255).round().double() / 255 - 1 for seed in range(4))
    dots = [picture[::56, ::56].flatten() for picture in (a + b - c - d, a - b, c - d)]
    between, ours, theirs = (float(x @ x) for x in dots)
    expected = FRAMES * (between / 4 + (ours + theirs) / 2 - abs(float(dots[1] @ dots[2])))
    head, _, same, other, _, note = capsys.readouterr().out.splitlines()
    assert head == "|  | FVD | clips | true clips |" and same == "| real | 0.00 | 2 | 2 |"
    assert other == f"| ours | {expected:.2f} | 2 | 2 |" and note.startswith("The fewer clips, the higher FVD")
    found = json.loads((tmp_path / "fvd.json").read_text())["ours"]
    assert found == {"FVD": pytest.approx(expected, rel=1e-5), "clips": [2, 2]}


def test_the_clips_that_i3d_has_seen_are_counted_beside_the_table(folders, capsys, caplog, monkeypatch):
    monkeypatch.setattr("animatic_pack.evaluation.command_line.read_i3d", lambda path: Thumbnail(1, 1))
    monkeypatch.setattr("animatic_pack.evaluation.command_line.EVERY", 4)
    caplog.set_level(logging.INFO)
    arguments = ["measure", f"one={folders / 'ours'}", f"two={folders / 'ours'}", "--truth", str(folders / "real")]
    assert main([*arguments, "--fvd", "i3d.pt", "--fvd-frames", str(FRAMES), "--device", "cpu"]) == 0
    said = [record.message for record in caplog.records]
    assert said == ["I3D looks at clips: 4 of 6", "I3D looks at clips: 6 of 6"]
    assert "I3D looks" not in capsys.readouterr().out, "where the table goes"


def test_mistakes_with_folders_are_said(folders, file, tmp_path, capsys):
    real, one, short = folders / "real", tmp_path / "one", tmp_path / "short"
    for clip, frames in ((one / "a.mp4", 12), (short / "a.mp4", 12), (short / "b.mp4", 5)):
        clip.parent.mkdir(exist_ok=True)
        write_video(clip, np.zeros((frames, 32, 32, 3), np.uint8), 8)
    for arguments, words in (
        ([], "name their folder with --truth"),
        (["--truth", real, "--prompt", "a fox"], "Run it twice"),
        (["--truth", tmp_path / "nowhere"], "There is no folder of clips"),
        (["--truth", one / "a.mp4"], "There is no folder of clips"),
        (["--truth", one], f"{one} holds 1"),
        (["--truth", real / "clip 0"], "holds 0"),
        (["--truth", real, "--fvd-frames", "8"], "9 frames or more, not at 8"),
        (["--truth", real], "has 11 frames, and FVD takes 16 of each clip. Take 11 of each, or remove it"),
        (["--truth", short, "--fvd-frames", "10"], "b.mp4 has 5 frames, and FVD takes 10 of each clip. I3D needs 9"),
    ):
        start = ["measure", str(folders / "ours"), "--fvd", str(file), "--device", "cpu"]
        assert main([*start, *map(str, arguments)]) == 1
        assert words in capsys.readouterr().err, words
