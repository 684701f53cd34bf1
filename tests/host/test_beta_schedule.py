"""Noise schedules of MODELs that share one model, loaded one after another by the host's memory managers."""

from dataclasses import replace
from itertools import accumulate
import math
from operator import mul
from types import SimpleNamespace

from animatic_pack.motion_modules.families import (
    BETA_SCHEDULES,
    LCM,
    LINEAR,
    LINEAR_SDXL,
    SQRT_LINEAR,
    BetaSchedule,
)
from animatic_pack.nodes.host.motion.beta_schedule import set_beta_schedule
import comfy.model_patcher
import comfy.model_sampling
from host_models import image_model
import pytest
import torch

ORDER = (None, SQRT_LINEAR, None, LCM, None, LINEAR, LINEAR_SDXL, None, SQRT_LINEAR)
DEVICE = torch.device("cpu", 0)


def tables_of(sampling) -> tuple[torch.Tensor, torch.Tensor]:
    return sampling.sigmas.clone(), sampling.log_sigmas.clone()


def model_with(root, schedule):
    model = root.clone()
    if schedule is not None:
        set_beta_schedule(model, schedule)
    return model


def expected(schedule) -> tuple[torch.Tensor, torch.Tensor]:
    """As in a process where nothing else was loaded before."""
    return tables_of(model_with(image_model(), schedule).get_model_object("model_sampling"))


def check(models_in_order):
    for schedule, sampling in models_in_order:
        for found, wanted in zip(tables_of(sampling), expected(schedule), strict=True):
            assert torch.equal(found.cpu(), wanted), schedule


def test_each_model_has_its_own_schedule_with_the_plain_memory_manager():
    root = image_model()
    models = {schedule: model_with(root, schedule) for schedule in set(ORDER)}

    def loaded():
        for schedule in ORDER:
            models[schedule].patch_model(torch.device("cpu"))
            yield schedule, models[schedule].model.model_sampling
            models[schedule].unpatch_model(torch.device("cpu"))

    check(loaded())


@pytest.fixture
def dynamic_model(monkeypatch):
    """The host's dynamic patcher on a processor, without the parts that need a graphics card's pages."""
    if not hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        pytest.skip("this ComfyUI has no dynamic memory manager")
    import comfy_aimdo.host_buffer

    class OnProcessor(comfy.model_patcher.ModelPatcherDynamic):
        def __new__(cls, *args, **kwargs):
            return object.__new__(cls)

        def _vbar_get(self, create=False):
            return None

    monkeypatch.setattr(comfy_aimdo.host_buffer, "HostBuffer", lambda *args, **kwargs: SimpleNamespace(size=0))
    return OnProcessor(image_model().model, DEVICE, torch.device("cpu"))


@pytest.mark.parametrize("unload", [False, True], ids=["swapped", "unloaded between"])
def test_each_model_has_its_own_schedule_with_the_dynamic_memory_manager(dynamic_model, unload):
    """It keeps buffers by path for all clones of a model, and writes them into whatever stands there."""
    models = {schedule: model_with(dynamic_model, schedule) for schedule in set(ORDER)}

    def loaded():
        previous = None
        for schedule in ORDER:
            if previous is not None:
                previous.detach(unpatch_all=unload)
            previous = models[schedule]
            previous.partially_load(DEVICE)
            yield schedule, previous.model.model_sampling

    check(loaded())
    check((schedule, models[schedule].get_model_object("model_sampling")) for schedule in set(ORDER) - {None})


def test_tables_stand_where_the_model_computes():
    model = image_model(device=torch.device("meta"))
    set_beta_schedule(model, SQRT_LINEAR)
    sampling = model.get_model_object("model_sampling")
    assert sampling.sigmas.device.type == sampling.log_sigmas.device.type == "meta"
    assert not list(sampling.buffers())


def levels(beta) -> list[float]:
    """Noise levels sqrt((1 - a) / a), a the running product of 1 - beta, of 1000 timesteps."""
    products = accumulate((1 - beta(t) for t in range(1000)), mul)
    return [math.sqrt((1 - a) / a) for a in products]


def between(t: int, start: float, end: float) -> float:
    return start + (end - start) * t / 999


def sqrt_linear(t: int) -> float:
    return between(t, 0.00085, 0.012)


def linear(t: int) -> float:
    return between(t, 0.00085**0.5, 0.012**0.5) ** 2


def every(stride: int, table: list[float]) -> list[float]:
    """What a model distilled to 1000 / stride steps knows: the last timestep, and each `stride` before it."""
    return table[stride - 1 :: stride]


def mean(*tables: list[float]) -> list[float]:
    return [sum(row) / len(row) for row in zip(*tables, strict=True)]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("avg(sqrt_linear,linear)", mean(levels(sqrt_linear), levels(linear))),
        ("lcm avg(sqrt_linear,linear)", mean(every(20, levels(sqrt_linear)), every(20, levels(linear)))),
        ("lcm[100_ots]", every(10, levels(linear))),
        ("lcm >> sqrt_linear", every(20, levels(sqrt_linear))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_schedules_of_other_packs_are_their_numbers(name, wanted):
    sampling = model_with(image_model(), BETA_SCHEDULES[name]).get_model_object("model_sampling")
    assert torch.allclose(sampling.sigmas, torch.tensor(wanted), rtol=2e-5, atol=0)
    assert torch.allclose(sampling.log_sigmas, torch.tensor(wanted).log(), atol=2e-5)
    assert ("LCM" in {kind.__name__ for kind in type(sampling).__mro__}) == name.startswith("lcm")


ZERO_SNR = BetaSchedule("sqrt_linear", 0.00085, 0.012, v_prediction=True, zero_snr=True)


def zero_terminal_snr(betas: torch.Tensor) -> torch.Tensor:
    """Noise levels by Lin et al. 2023 (arXiv 2305.08891), algorithm 1, without the last, which is infinite."""
    kept = (1 - betas).cumprod(0).sqrt()
    kept = (kept - kept[-1]) * kept[0] / (kept[0] - kept[-1])
    return ((1 - kept**2) / kept**2).sqrt()[:-1]


def test_a_schedule_may_bring_its_prediction_and_end_in_noise_alone():
    model = image_model()
    set_beta_schedule(model, ZERO_SNR)
    sampling = model.get_model_object("model_sampling")
    expected = zero_terminal_snr(torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64))
    assert torch.allclose(sampling.sigmas[:-1].double(), expected, rtol=1e-3)
    assert (
        sampling.sigma_max
        > 4000
        > 100 * model_with(image_model(), SQRT_LINEAR).get_model_object("model_sampling").sigma_max
    )
    x, v, sigma = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2), torch.tensor([7.0])
    wanted = x / (sigma**2 + 1) - v * sigma / (sigma**2 + 1).sqrt()
    assert torch.allclose(sampling.calculate_denoised(sigma, v, x), wanted)


@pytest.mark.parametrize("motion_first", [True, False])
def test_it_stays_whichever_node_comes_first(motion_first):
    model = image_model()
    for schedule in (SQRT_LINEAR, ZERO_SNR) if motion_first else (ZERO_SNR, SQRT_LINEAR):
        model = model_with(model, schedule)
    alone = model_with(image_model(), ZERO_SNR).get_model_object("model_sampling")
    both = model.get_model_object("model_sampling")
    assert torch.equal(both.sigmas, alone.sigmas) and isinstance(both, comfy.model_sampling.V_PREDICTION)
    set_beta_schedule(model, replace(ZERO_SNR, v_prediction=False, zero_snr=False))
    assert tables_of(model.get_model_object("model_sampling"))[0].equal(expected(SQRT_LINEAR)[0])
    assert not isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)
