"""Noise schedules of MODELs that share one model, as the host loads one after another onto the card."""

from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from host_models import image_model, motion_module_of, sample
from reference import relative_error

PLAIN = "plain"
ORDER = (
    PLAIN,
    "sqrt_linear (AnimateDiff)",
    PLAIN,
    "lcm (AnimateLCM)",
    PLAIN,
    "linear (AnimateDiff SDXL)",
    "linear (HotShotXL, Stable Diffusion)",
    PLAIN,
)


def test_each_clip_has_its_own_schedule(card):
    module = motion_module_of("v3", modules=2)

    def clip(model, schedule):
        moving = apply_motion_module(model, module, MotionSettings("v3"), schedule) if schedule != PLAIN else model
        return sample(moving)

    alone = {schedule: clip(image_model(device=card), schedule) for schedule in set(ORDER)}
    shared = image_model(device=card)
    for schedule in ORDER:
        assert relative_error(clip(shared, schedule), alone[schedule]) < 1e-5, schedule
        others = [relative_error(other, alone[schedule]) for name, other in alone.items() if name != schedule]
        assert min(others) > 1e-3, "each schedule gives a clip of its own"
