"""Motion under TorchCompileModel with its own compiler, whose kernels run on the card."""

import shutil

from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from host_models import FULL_WIDTH, motion_module_of, sample
from one_level import animated_and_compiled, one_level_model
import pytest
from reference import FP16_BOUND, errors_by_frame
import torch

pytest.importorskip("triton", reason="TorchCompileModel needs Triton")
if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
    pytest.skip("Triton needs a C compiler", allow_module_level=True)

SETTINGS = {"whole range": MotionSettings("v3"), "second half": MotionSettings("v3", start_percent=0.5)}


@pytest.fixture(autouse=True)
def no_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("compiled_first", [True, False], ids=["compiled, then applied", "applied, then compiled"])
def test_compiled_frames_are_as_uncompiled(monkeypatch, card, compiled_first):
    model = one_level_model(monkeypatch, dtype=torch.float16, width=FULL_WIDTH, device=card)
    module = motion_module_of("v3", (FULL_WIDTH,), torch.float16)
    plain = sample(model, steps=4)
    for settings in SETTINGS.values():
        expected = sample(apply_motion_module(model, module, settings), steps=4)
        found = sample(animated_and_compiled(model, module, settings, "inductor", compiled_first), steps=4)
        assert max(errors_by_frame(found, expected)) < min(FP16_BOUND, *errors_by_frame(plain, expected)), settings
