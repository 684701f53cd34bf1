"""The image inputs of AnimateLCM-I2V and PIA, and FreeInit's filter, against their descriptions."""

from animatic_pack.motion_modules.image_encoder import ImageEncoder, with_image_channels
from animatic_pack.nodes.timeline.free_init import mix_frequencies
import pytest
from reference import positions, relative_error
from small_models import image_encoder_state_dict
import torch
from torch import nn
from torch.nn import Conv2d
from torch.nn.functional import conv2d

CHANNELS = (32, 64, 128, 128)


def reference_encoder(w, x, drift):
    """Written from the file layout: two residual blocks a level, the size halved with edges repeated between."""
    x = conv2d(x, w["conv_in.weight"], w["conv_in.bias"], padding=1)
    x = x + drift * positions(x.shape[0], x.shape[1])[:, :, None, None]
    features = []
    for index in range(2 * len(CHANNELS)):
        if index in (2, 4, 6):
            height, width = ((side + 1) // 2 * 2 for side in x.shape[2:])
            rows, columns = (torch.arange(n).clamp(max=m - 1) for n, m in ((height, x.shape[2]), (width, x.shape[3])))
            x = x[:, :, rows][:, :, :, columns]
            x = x.reshape(*x.shape[:2], height // 2, 2, width // 2, 2).mean((3, 5))
        block = f"body.{index}."
        if f"{block}in_conv.weight" in w:
            x = conv2d(x, w[f"{block}in_conv.weight"], w[f"{block}in_conv.bias"])
        h = conv2d(x, w[f"{block}block1.weight"], w[f"{block}block1.bias"], padding=1).clamp(min=0)
        x = x + conv2d(h, w[f"{block}block2.weight"], w[f"{block}block2.bias"])
        if index % 2:
            features.append(x)
    return features


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 9)])
def test_image_encoder_agrees_with_its_layout(size):
    weights = image_encoder_state_dict(CHANNELS, prefix="")
    encoder = ImageEncoder(CHANNELS, nn)
    encoder.load_state_dict(weights)
    latents = torch.randn(1, 4, *size).expand(6, -1, -1, -1)
    expected = reference_encoder({key: value.double() for key, value in weights.items()}, latents.double(), 0.8)
    for feature, wanted in zip(encoder(latents, 0.8), expected, strict=True):
        assert relative_error(feature, wanted) < 1e-5


def test_image_channels_are_those_of_one_convolution_with_nine():
    whole = Conv2d(9, 32, 3, padding=1)
    noise_part, image_part = Conv2d(4, 32, 3, padding=1), Conv2d(5, 32, 3, padding=1, bias=False)
    noise_part.load_state_dict({"weight": whole.weight[:, :4], "bias": whole.bias})
    image_part.load_state_dict({"weight": whole.weight[:, 4:]})
    noise, still, likeness = torch.randn(6, 4, 5, 7), torch.randn(1, 4, 5, 7), torch.rand(6)
    mask = likeness[:, None, None, None].expand(6, 1, 5, 7)
    expected = whole(torch.cat([noise, mask, still.expand(6, -1, -1, -1)], dim=1))
    assert relative_error(noise_part(noise) + with_image_channels(image_part, likeness, still), expected) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 4, 8, 12), (1, 4, 7, 5), (5, 4, 9, 8)])
def test_free_init_keeps_what_is_slow_of_one_and_what_is_fast_of_the_other(shape, dtype):
    low, high = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    assert mix_frequencies(low, high).dtype == dtype
    even = torch.full(shape, 3.0, dtype=dtype)
    assert relative_error(mix_frequencies(even, torch.zeros_like(even)), even) < 1e-2
    assert relative_error(mix_frequencies(low, low), low) < 1e-2
    flicker = torch.ones(shape) * (-1.0) ** torch.arange(shape[3])
    if shape[3] % 2 == 0:
        assert mix_frequencies(flicker, torch.zeros(shape)).abs().max() < 1e-4
        assert relative_error(mix_frequencies(torch.zeros(shape), flicker), flicker) < 1e-4
