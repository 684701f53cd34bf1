"""Sixteen frames at the sizes that people render, in float16."""

from functools import partial

from full_size import MOTION_MODULES, animated, full_model
from host_models import sample
import pytest
from reference import errors_by_frame


@pytest.fixture(scope="module")
def models(sd15):
    return {"SD1.5": sd15, "SDXL": full_model("SDXL")}


@pytest.mark.parametrize("pixels", [512, 768, 1024])
@pytest.mark.parametrize("name", ["v2", "HotShotXL"])
def test_sixteen_frames_run_and_move(models, name, pixels):
    kind = MOTION_MODULES[name][0]
    clip = partial(sample, frames=16, size=(pixels // 8, pixels // 8), steps=2, kind=kind)
    still, moving = clip(models[kind]), clip(animated(models[kind], name))
    assert still.isfinite().all() and moving.isfinite().all()
    assert min(errors_by_frame(moving, still)) > 0.05
