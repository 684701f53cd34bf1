"""What AnimateDiff-Evolved's nodes hold that only carry settings to others."""

from dataclasses import dataclass
from typing import Any

from .graph import Node, Out
from .old_values import fits
from .work import Work

BETA_SCHEDULES = {
    "autoselect": "auto",
    "use existing": "use existing",
    "sqrt_linear (AnimateDiff)": "sqrt_linear (AnimateDiff)",
    "sqrt_linear": "sqrt_linear (AnimateDiff)",
    "linear (HotshotXL/default)": "linear (HotShotXL, Stable Diffusion)",
    "linear": "linear (HotShotXL, Stable Diffusion)",
    "linear (AnimateDiff-SDXL)": "linear (AnimateDiff SDXL)",
    "avg(sqrt_linear,linear)": "avg(sqrt_linear,linear)",
    "lcm avg(sqrt_linear,linear)": "lcm avg(sqrt_linear,linear)",
    "lcm": "lcm (AnimateLCM)",
    "lcm[100_ots]": "lcm[100_ots]",
    "lcm >> sqrt_linear": "lcm >> sqrt_linear",
}

FUSE_METHODS = ("pyramid", "flat", "overlap-linear", "relative")
LONGEST_WINDOW, LONGEST_STRIDE = 128, 6


def beta_schedule(work: Work, node: Node) -> str:
    name = work.value(node, "beta_schedule")
    if name == "use existing":
        name = checkpoint_schedule(work, node)
    if name not in BETA_SCHEDULES:
        work.lost(node, f"beta_schedule {name!r} has no equal; auto stands there now: the motion module's own")
    return BETA_SCHEDULES.get(name, "auto")


def sampling_schedule(work: Work, node: Node) -> str:
    """The noise schedule of a node that acts on the MODEL; that of its sample settings comes first."""
    settings, own = work.carrier(node, "sample_settings"), beta_schedule(work, node)
    schedule = work.carrier(settings, "sigma_schedule") if settings else None
    if schedule and schedule.type == "ADE_SigmaSchedule":
        return beta_schedule(work, schedule)
    if schedule:
        work.lost(schedule, "mixed noise levels have no equal; Apply Motion Module's beta_schedule offers two averages")
    return own


def checkpoint_schedule(work: Work, node: Node) -> str:
    """What the checkpoint's loader set, followed up the MODEL's way."""
    seen = set()
    while node and node.id not in seen:
        seen.add(node.id)
        if node.type == "CheckpointLoaderSimpleWithNoiseSelect":
            return node.values["beta_schedule"]
        node = work.graph.node_behind(node.source("model"))
    return "use existing"


def model_settings(work: Work, node: Node) -> tuple[dict[str, Any], Out | None]:
    """What Load Motion Module is given for ad_settings, and a mask on the motion scale."""
    settings = work.carrier(node, "ad_settings")
    if settings is None:
        return {}, None
    if settings.type == "ADE_AnimateDiffSettings":
        return {**_stretch(work, settings), **_factor(work, settings)}, None
    work.only(
        settings,
        {name: 1.0 for name in settings.values if name.endswith("_strength")},
        "Motion Control's motion_scale acts on the attention keys",
    )
    positions = {name: 0 for name in settings.values if "pe_" in name and not name.endswith("_strength")}
    work.only(settings, positions, "write Load Motion Module's stretch_positions, e.g. '-> 35' for 32 and 3 more")
    mask = settings.source("mask_motion_scale")
    lowest, highest = work.value(settings, "min_motion_scale"), work.value(settings, "max_motion_scale")
    if mask and (lowest, highest) != (0, 1):
        work.lost(
            settings,
            f"mask_motion_scale from {lowest} to {highest}: the mask now multiplies motion_scale as it is; "
            "Numbers by Frame and stock mask nodes make one of another range",
        )
    return {}, mask


def _stretch(work: Work, settings: Node) -> dict[str, Any]:
    chain = work.chain(settings, "pe_adjust")
    if len(chain) > 1:
        work.lost(settings, "several position adjustments in a row have no equal; stretch_positions holds one")
    elif chain and chain[0].type == "ADE_AdjustPESweetspotStretch":
        first, last = (work.value(chain[0], name) for name in ("sweetspot", "new_sweetspot"))
        if isinstance(first, int) and isinstance(last, int):
            return {"stretch_positions": f"{first} -> {last}"} if first != last else {}
        work.lost(chain[0], "its numbers come by links; write stretch_positions, e.g. '16 -> 18', by hand")
    elif chain:
        work.lost(chain[0], "write Load Motion Module's stretch_positions: '-> 40' gives all positions 40 frames")
    return {}


def _factor(work: Work, settings: Node) -> dict[str, Any]:
    factor = 1.0
    for one in work.chain(settings, "weight_adjust"):
        value = work.value(one, "all_MULT") if one.type == "ADE_AdjustWeightAllMult" else None
        if value is None:
            work.lost(one, "only factors on all weights have an equal: Load Motion Module's weight_factor")
        else:
            factor *= value
    return {"weight_factor": factor} if factor != 1 else {}


@dataclass
class Multival:
    """A number, the output that brings numbers, and a mask."""

    number: float = 1.0
    numbers: Out | None = None
    mask: Out | None = None

    @property
    def is_plain(self) -> bool:
        return self.numbers is None and self.mask is None


def multival(work: Work, node: Node, name: str) -> Multival:
    carrier = work.carrier(node, name)
    if carrier is None:
        return Multival()
    if carrier.type == "ADE_MultivalScaledMask":
        lowest, highest, scaling = (work.value(carrier, n) for n in ("min_float_val", "max_float_val", "scaling"))
        if lowest != 0 or scaling != "absolute" or highest is None:
            work.lost(
                carrier,
                f"a mask scaled ({scaling}) from {lowest} to {highest}: the mask now multiplies as it is; "
                "make one of that range with Numbers by Frame and stock mask nodes",
            )
            highest = 1.0
        return Multival(highest, mask=carrier.source("mask"))
    if not str(carrier.type).startswith("ADE_MultivalDynamic"):
        work.lost(carrier, f"{name} comes from a node that has no equal; set the number on Apply Motion Module")
        return Multival()
    number, mask = work.value(carrier, "float_val"), carrier.source("mask_optional")
    if isinstance(number, int | float):
        return Multival(number, mask=mask)
    return Multival(numbers=work.graph.origin(carrier.source("float_val")), mask=mask)


def windows(work: Work, context: Node) -> dict[str, Any]:
    given = {"context_schedule": _schedule(work, context), "view_length": 0}
    for name, most in (
        ("context_length", LONGEST_WINDOW),
        ("context_overlap", 127),
        ("context_stride", LONGEST_STRIDE),
    ):
        value = work.setting(context, name) if name in context.values else None
        if value is None:
            continue
        if fits(value, most) and value > most:
            work.lost(context, f"{name} {value}: Context Options goes to {most}")
            value = most
        given[name] = value
    fuse = context.values.get("fuse_method", "flat")
    if fuse not in FUSE_METHODS:
        work.lost(context, f"fuse_method {fuse!r} has no equal; pyramid stands there now")
        fuse = "pyramid"
    work.only(context, {"guarantee_steps": 1} if "guarantee_steps" in context.values else {})
    given |= {"fuse_method": fuse, "start_percent": work.value(context, "start_percent") or 0.0}
    looped = "looped" in given["context_schedule"]
    given["loop_one_window"] = bool(looped and context.values.get("use_on_equal_length"))
    return {**given, **_views(work, context)}


def _schedule(work: Work, context: Node) -> str:
    plain = {
        "ADE_StandardStaticContextOptions": "static standard",
        "ADE_StandardUniformContextOptions": "uniform standard",
        "ADE_BatchedContextOptions": "batched",
        "ADE_ViewsOnlyContextOptions": "views only",
    }
    if context.type in plain:
        return plain[context.type]
    if context.values.get("context_schedule", "uniform") != "uniform":
        work.lost(context, f"context_schedule {context.values['context_schedule']!r}: looped windows stand there now")
    closed = work.value(context, "closed_loop")
    if closed is None:
        work.lost(context, "closed_loop comes by a link; the loop is open now, or choose 'uniform looped'")
    return "uniform looped" if closed else "uniform looped, open"


def _views(work: Work, context: Node) -> dict[str, Any]:
    views = work.carrier(context, "view_opts", "view_opts_req")
    if views is None:
        return {}
    if views.type != "ADE_StandardStaticViewOptions":
        work.lost(views, "only static views have an equal: Context Options' view_length and view_overlap")
        return {}
    work.only(views, {"fuse_method": "pyramid"}, "views are averaged")
    length, overlap = work.value(views, "view_length"), work.value(views, "view_overlap")
    if context.type == "ADE_ViewsOnlyContextOptions":
        return {"context_length": length, "context_overlap": overlap}
    return {"view_length": length, "view_overlap": overlap}
