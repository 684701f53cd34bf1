"""Training at full size on the card: what it computes in 16 bits, what it needs, and that it leaves nothing behind."""

import gc

from animatic_pack.training.stages import DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE
import comfy.model_management
import pytest
import torch
from training_rates import trainer_of

COUNTED = torch.get_device_module()
# GiB, of docs/training.md for 16 frames of 256 x 256 with recompute, without the context that PyTorch does not count
PEAKS = {MOTION_LORA: 5.0, MOTION_MODULE: 10.2, DOMAIN_ADAPTER: 5.0}


@pytest.fixture(autouse=True)
def memory_comes_back():
    gc.collect()
    before = COUNTED.memory_allocated()
    COUNTED.reset_peak_memory_stats()
    yield
    gc.collect()
    comfy.model_management.soft_empty_cache()
    assert COUNTED.memory_allocated() - before < 2**26


@pytest.mark.parametrize("stage", PEAKS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_train_as_32_do_in_the_memory_that_the_guide_names(stage, precision):
    trainer = trainer_of(stage, True, precision)
    losses = [trainer.train_step().loss for _ in range(3)]
    assert COUNTED.max_memory_allocated() < PEAKS[stage] * 2**30
    assert all(parameter.isfinite().all() for parameter in trainer.denoiser.parameters())
    del trainer
    gc.collect()
    exact = trainer_of(stage, True, "fp32")
    for found, wanted in zip(losses, (exact.train_step().loss for _ in range(3)), strict=True):
        assert found == pytest.approx(wanted, rel=0.02)
    del exact


@pytest.mark.parametrize("stage", PEAKS)
def test_recomputation_gives_the_same_step_in_less_memory(stage):
    found = {}
    for recompute in (False, True):
        trainer = trainer_of(stage, recompute)
        COUNTED.reset_peak_memory_stats()  # or the peak may be that of making the models
        found[recompute] = trainer.train_step().loss, COUNTED.max_memory_allocated()
        del trainer
        gc.collect()
    assert found[True][0] == pytest.approx(found[False][0], rel=1e-3)
    assert found[True][1] < found[False][1]
