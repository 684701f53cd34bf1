"""Full-width models on the card: float32 as on the processor, 16 bits as float32."""

from functools import partial

import comfy.model_management
from full_size import MOTION_MODULES, animated, full_model, in_precision, on_device
from host_models import CPU, sample
import pytest
from reference import FP16_BOUND, errors_by_frame, relative_error
import torch

FP32_BOUND = 1e-3
BFLOAT16_FACTOR = 8  # it keeps 8 bits where float16 keeps 11
PAIRS = [(kind, name) for name, (kind, _) in MOTION_MODULES.items()]
clip = partial(sample, frames=4, size=(8, 8), steps=2)


@pytest.fixture(scope="module")
def plain(request):
    """One kind at a time: the larger takes 10 GB of memory."""
    yield full_model(request.param, torch.float32)
    comfy.model_management.unload_all_models()


@pytest.mark.parametrize("plain, name", PAIRS, indirect=["plain"], ids=[name for _, name in PAIRS])
def test_float32_is_as_on_the_processor_and_16_bits_are_as_float32(plain, name, card):
    kind = MOTION_MODULES[name][0]
    on_processor = clip(animated(on_device(plain, CPU), name), kind=kind)
    comfy.model_management.unload_all_models()
    expected = clip(animated(on_device(plain, card), name), kind=kind)
    assert relative_error(expected, on_processor) < FP32_BOUND
    effect = min(errors_by_frame(clip(on_device(plain, card), kind=kind), expected))
    for dtype, bound in ((torch.float16, FP16_BOUND), (torch.bfloat16, BFLOAT16_FACTOR * FP16_BOUND)):
        found = clip(animated(in_precision(plain, kind, dtype), name), kind=kind)
        assert max(errors_by_frame(found, expected)) < min(bound, effect), dtype
