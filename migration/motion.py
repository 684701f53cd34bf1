"""AnimateDiff-Evolved's and ArtVentureX's nodes that act on the MODEL."""

from dataclasses import dataclass, field
from typing import Any

from .carriers import Multival, model_settings, multival, sampling_schedule, windows
from .graph import BYPASSED, Node, Out
from .shape import as_list
from .work import KEPT, Work


@dataclass
class Animation:
    """A MODEL on its way through new nodes. names: of the nodes that were put in beside the first."""

    work: Work
    old: Node
    model: Out | None
    names: list[str] = field(default_factory=list)

    def then(self, node_type: str, primary: bool = False, **given: Any) -> None:
        self.model = self.work.add(node_type, self.old, primary, model=self.model, **given)
        if not primary:
            self.names.append(node_type)

    def beside(self, node_type: str, **given: Any) -> Out:
        self.names.append(node_type)
        return self.work.add(node_type, self.old, **given)


def motion_control(way: Animation, scale: Multival, effect: Multival) -> Out | None:
    """A Motion Control for numbers by frame and masks; None where plain numbers do."""
    if scale.is_plain and effect.is_plain:
        return None
    given = {
        "motion_scale": scale.numbers,
        "effect": effect.numbers,
        "scale_mask": scale.mask,
        "effect_mask": effect.mask,
    }
    return way.beside("AnimaticMotionControl", **{name: out for name, out in given.items() if out})


KEYFRAMES = {
    "ad_keyframes": "one Motion Control for each keyframe, connected through previous, with its start_percent",
    "per_block": "Motion Control's block_effects has a line for each block",
}


def sample_settings(way: Animation, node: Node) -> bool:
    """Put in the nodes that stand for ADE's sample settings; returns whether they ask for FreeNoise."""
    work, settings = way.work, way.work.carrier(node, "sample_settings")
    if settings is None:
        return False
    work.only(settings, {"batch_offset": 0, "seed_gen": "comfy", "adapt_denoise_steps": False})
    work.only(settings, {"seed_offset": 0}, "add it to the sampler's seed")
    work.unlinked(
        settings,
        {
            "seed_override": "Noise by Frame's seeds",
            "noise_layers": "Noise by Frame blends seeds",
            "image_inject": "a second sampler that starts at that step, with the picture added",
            "ancestral_opts": "use another sampler",
        },
    )
    _iterations(way, settings)
    _custom_cfg(way, settings)
    kind = work.value(settings, "noise_type")
    if kind in ("constant", "empty"):
        way.then("AnimaticFrameNoise", kind=kind)
    elif kind not in ("default", "FreeNoise"):
        work.lost(settings, f"noise_type {kind!r} has no equal; Context Options' free_noise is the nearest")
    return kind == "FreeNoise"


def _iterations(way: Animation, settings: Node) -> None:
    options = way.work.carrier(settings, "iteration_opts")
    if options is None:
        return
    iterations = way.work.value(options, "iterations")
    if options.type != "ADE_IterationOptsFreeInit":
        way.work.only(options, {"iterations": 1}, "queue again with another seed")
        return
    if (way.work.value(options, "filter"), way.work.value(options, "n_butterworth")) != ("butterworth", 4):
        way.work.lost(options, "the filter is FreeInit's own Butterworth one now")
    way.work.only(options, {"d_s": 0.25, "d_t": 0.25, "apply_to_1st_iter": False, "iter_batch_offset": 0})
    if not isinstance(iterations, int) or not 1 <= iterations <= 10:
        way.work.lost(options, f"iterations {iterations!r}: FreeInit takes 1 to 10; 3 stands there now")
        iterations = 3
    way.then("AnimaticFreeInit", iterations=iterations)


def _custom_cfg(way: Animation, settings: Node) -> None:
    custom = way.work.carrier(settings, "custom_cfg")
    if custom is None:
        return
    if custom.type != "ADE_CustomCFGSimple":
        way.work.lost(custom, "write CFG Schedule's by_step, e.g. '0: 8, 0.5: 2'")
        return
    way.work.unlinked(custom, {"cfg_extras": "stock RescaleCFG or PerturbedAttentionGuidance"})
    cfg = way.work.value(custom, "cfg")
    way.then("AnimaticCfgSchedule", by_step=way.work.graph.origin(custom.source("cfg")) if cfg is None else str(cfg))


def context_options(way: Animation, node: Node, free_noise: bool) -> None:
    """A Context Options for each context of the chain, or one bypassed where the old one was muted."""
    work = way.work
    chain = work.chain(node, "context_options", "sliding_window_opts")
    for context in chain:
        way.then("AnimaticContextOptions", **windows(work, context), free_noise=free_noise)
    if free_noise and not chain:
        work.lost(node, "FreeNoise without context options: put Context Options on the MODEL, with free_noise on")


def load_module(work: Work, node: Node) -> None:
    """ADE_LoadAnimateDiffModel, one for one."""
    given, mask = model_settings(work, node)
    if mask:
        work.lost(node, "a mask on the motion scale: Motion Control's scale_mask, beside Apply Motion Module")
    loaded = work.add("AnimaticLoadMotionModule", node, True, motion_module=work.setting(node, "model_name"), **given)
    work.finish(node, {0: loaded})


def load_lora(work: Work, node: Node) -> None:
    """A MotionLoRA, one for one; bypassed where the old node had none chosen."""
    name = work.setting(node, "lora_name" if node.type == "AnimateDiffLoraLoader" else "name")
    if name in ("None", None, ""):
        node.mode = BYPASSED
        work.lost(node, "no MotionLoRA was chosen; choose one and take it out of bypass, or leave it")
        name = ""
    strength = work.setting(node, "alpha" if node.type == "AnimateDiffLoraLoader" else "strength")
    previous = node.source("prev_motion_lora", "lora_stack")
    given = {"previous": previous} if previous else {}
    if node.mode == BYPASSED and not work.graph.names_outputs:
        work.finish(node, {0: previous} if previous else {})  # the API form has no bypassed nodes
        return
    out = work.add("AnimaticLoadMotionLora", node, True, motion_lora=name, strength=strength, **given)
    work.finish(node, {0: out})


def loader(work: Work, node: Node) -> None:
    """The one-node loaders: a motion module, how it acts, context options and sample settings at once."""
    way = Animation(work, node, node.source("model"))
    adjust, mask = model_settings(work, node)
    work.unlinked(node, KEYFRAMES)
    if node.values.get("apply_v2_models_properly") is False:
        adjust["v2_norms_as_v1"] = True
    loaded = way.beside("AnimaticLoadMotionModule", motion_module=work.setting(node, "model_name"), **adjust)
    if "motion_scale" in node.values:
        scale, effect = Multival(), Multival()
        number = work.setting(node, "motion_scale")
    else:
        scale, effect = multival(work, node, "scale_multival"), multival(work, node, "effect_multival")
        number = scale.number
    scale.mask = scale.mask or mask
    _apply(way, node, loaded, number, (scale, effect), sampling_schedule(work, node), primary=True)
    context_options(way, node, sample_settings(way, node))
    if node.type == "ADE_AnimateDiffLoaderV1Advanced":
        way.then("AnimaticContextOptions", **windows(work, node))
    work.finish(node, {0: way.model, 1: node.source("latents")}, way.names)


def _apply(way: Animation, node: Node, loaded: Out, number: Any, vals: tuple, schedule: str, primary: bool) -> None:
    scale, effect = vals
    given = {"motion_control": motion_control(way, scale, effect), "motion_lora": node.source("motion_lora")}
    if "start_percent" in node.values:
        given |= {name: way.work.setting(node, name) for name in ("start_percent", "end_percent")}
    way.then(
        "AnimaticApplyMotionModule",
        primary,
        motion_module=loaded,
        motion_scale=number,
        effect=effect.number,
        beta_schedule=schedule,
        **{name: value for name, value in given.items() if value is not None},
    )


def evolved(work: Work, node: Node) -> None:
    """Use Evolved Sampling: an Apply Motion Module for each motion model, then what its settings ask for."""
    way = Animation(work, node, node.source("model"))
    models = _models(work, node)
    schedule = sampling_schedule(work, node)
    for place, one in enumerate(models):
        scale, effect = multival(work, one, "scale_multival"), multival(work, one, "effect_multival")
        work.unlinked(one, KEYFRAMES)
        first = place == 0
        kept = schedule if first else "use existing"
        _apply_model(way, one, (scale, effect), kept, primary=first)
    if not models and schedule not in ("use existing", "auto"):
        work.lost(
            node, f"beta_schedule {schedule!r} without a motion module: stock ModelSamplingDiscrete is the nearest"
        )
    context_options(way, node, sample_settings(way, node))
    work.finish(node, {0: way.model}, way.names)


def _models(work: Work, node: Node) -> list[Node]:
    known = []
    for one in work.chain(node, "m_models"):
        if one.type in ("ADE_ApplyAnimateDiffModel", "ADE_ApplyAnimateDiffModelSimple"):
            known.append(one)
        else:
            work.lost(one, "set it up with Apply Motion Module and, for PIA and AnimateLCM-I2V, Motion Image")
    return known


def _apply_model(way: Animation, one: Node, vals: tuple[Multival, Multival], schedule: str, primary: bool) -> None:
    loaded = one.source("motion_model")
    if loaded is None:
        way.work.lost(one, "no motion model goes in")
        return
    _apply(way, one, loaded, vals[0].number, vals, schedule, primary)


def unload(work: Work, node: Node) -> None:
    """A MODEL without motion again: that from before Apply Motion Module, where that node comes right before."""
    before = work.graph.node_behind(node.source("model"))
    if node.mode == BYPASSED:
        work.finish(node, {0: node.source("model")})
        return
    if before is None or before.type not in (*LOADERS, "ADE_UseEvolvedSampling", "AnimaticApplyMotionModule"):
        work.say(KEPT, node, "connect the MODEL from before Apply Motion Module in its place: it stays as it was")
        return
    work.finish(node, {0: before.source("model")})


LOADERS = (
    "ADE_AnimateDiffLoaderWithContext",
    "ADE_AnimateDiffLoaderGen1",
    "AnimateDiffLoaderV1",
    "ADE_AnimateDiffLoaderV1Advanced",
)


WINDOW = 16  # frames that its sampler took at once; more went into windows


def sampler(work: Work, node: Node) -> None:
    """ArtVentureX's sampler: Apply Motion Module and stock KSampler."""
    way = Animation(work, node, node.source("model"))
    module = work.carrier(node, "motion_module")
    if module is None or module.type != "AnimateDiffModuleLoader":
        work.say(KEPT, node, "its motion module cannot be followed; put Apply Motion Module before a KSampler")
        return
    work.only(node, {"inject_method": "default"}, "legacy acted on older motion modules")
    loaded = way.beside("AnimaticLoadMotionModule", motion_module=work.setting(module, "model_name"))
    lora = module.source("lora_stack")
    way.then("AnimaticApplyMotionModule", motion_module=loaded, **({"motion_lora": lora} if lora else {}))
    context_options(way, node, free_noise=False)
    frames = work.setting(node, "frame_number")
    if not node.input("sliding_window_opts") and isinstance(frames, int) and frames > WINDOW:
        way.then("AnimaticContextOptions", context_schedule="uniform looped, open", fuse_method="flat")
    latent = _frames_of(way, node)
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise", "positive", "negative")
    given = {name: work.setting(node, name) for name in names if work.setting(node, name) is not None}
    sampled = work.add("KSampler", node, True, model=way.model, latent_image=latent, **given)
    work.finish(node, {0: sampled}, way.names)


def _frames_of(way: Animation, node: Node) -> Out | None:
    """The latent with as many frames as frame_number says: a shorter one was filled up with its last frame."""
    frames = way.work.setting(node, "frame_number")
    source = way.work.graph.node_behind(node.source("latent_image"))
    if source and source.type == "EmptyLatentImage":
        batch = source.input("batch_size")
        count = source.values.get("batch_size", ([*as_list(source.raw.get("widgets_values")), *[None] * 3])[2])
        if batch is None and count == 1:
            return way.beside("RepeatLatentBatch", samples=node.source("latent_image"), amount=frames)
        if batch is None and count == frames:
            return node.source("latent_image")
    way.work.lost(
        node, f"frame_number {frames!r}: the latent must have as many frames; one that has fewer was filled up"
    )
    return node.source("latent_image")
