"""What is attached to a MODEL, and how it acts in every call of its UNet: the pack's one seam into sampling.

An attached thing is a frozen description that travels with the MODEL. Its networks travel beside it as additional
models, so that the host loads and offloads them. The two wrappers are plain functions: they find everything on the
patcher that really runs, which on several GPUs is a copy made by the host.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
import sys
from typing import Any, Protocol

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .arguments import call_with, named_arguments
from .call import BANK, WINDOWS, Answer, Call
from .patcher import set_wrapper
from .unet import answers_in_unet

KEY = "animatic"
# in the host's transformer_options: what a still has nothing of
OF_FRAMES = ("context_window", "ad_params", BANK, WINDOWS)
COMPILED = "torch_compile_kwargs"  # in the host's model_options
HIDES_CHANGES = sys.version_info[:3] == (3, 13, 0)  # from torch.compile, by CPython's fault 125608


class Attached(Protocol):
    """A motion module's settings, for example."""

    name: str

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        """Whether it has anything to do in steps at this noise level."""

    def prepare(self, patcher: ModelPatcher, height: int, width: int) -> Any:
        """What holds for a whole run at this latent size, worked out before its first step."""

    def answer(self, call: Call, models: list[ModelPatcher], prepared: Any) -> Answer:
        """What it does in this call. prepared: what `prepare` gave; None if the host skipped the start of the run."""


@dataclass
class Run:
    """One sampling run, by the number of the attached thing: what it prepared, and in how many calls it acted."""

    prepared: list[Any] = field(default_factory=list)
    acted: Counter = field(default_factory=Counter)


def attach(model: ModelPatcher, thing: Attached, models: list[ModelPatcher]) -> None:
    """Put a thing and its networks on `model` (a clone of ours); those that are there already act before it."""
    earlier = things_on(model)
    model.set_attachments(KEY, (*earlier, thing))
    model.set_additional_models(_models_key(len(earlier)), models)
    model.set_attachments(_models_key(len(earlier)), tuple(map(_identity, models)))
    set_wrapper(model, WrappersMP.OUTER_SAMPLE, KEY, sample_with_attached)
    set_wrapper(model, WrappersMP.APPLY_MODEL, KEY, call_with_attached)


def things_on(model: ModelPatcher) -> tuple[Attached, ...]:
    return model.get_attachment(KEY) or ()


def attached_to(model: ModelPatcher) -> Iterator[tuple[Attached, list[ModelPatcher]]]:
    """Each attached thing with its networks, in the order in which they act."""
    for number, thing in enumerate(things_on(model)):
        models = model.get_additional_models_with_key(_models_key(number))
        wanted = model.get_attachment(_models_key(number))
        if len(models) != len(wanted):
            # the host's copy for another card has a network that is on a MODEL twice once, for the first that has it
            known = {_identity(one): one for one in model.get_additional_models()}
            models = [known[identity] for identity in wanted]
        yield thing, models


def _identity(model: ModelPatcher) -> object:
    """The same for all clones of a network's patcher, on every card; hosts that use one card alone have none."""
    return getattr(model, "clone_base_uuid", None)


def _models_key(number: int) -> str:
    return f"{KEY}.{number}"


def sample_with_attached(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: prepares a run; fails loudly if something should have acted in it and never did."""
    guider = executor.class_obj
    patcher = guider.model_patcher
    refuse_faulty_python(guider.model_options)
    named = named_arguments(executor, args, kwargs)
    num_frames, *_, height, width = named["noise"].shape
    run = Run([thing.prepare(patcher, height, width) for thing in things_on(patcher)])
    options = guider.model_options.setdefault("transformer_options", {})
    options[KEY] = run
    # AnimateDiff-Evolved's contract with other packs; a context handler puts in the window at hand
    options["ad_params"] = {"full_length": num_frames, "context_length": None, "sub_idxs": None}
    output = executor(*args, **kwargs)
    require_acted(patcher, run, named["sigmas"][:-1].tolist())
    return output


def call_with_attached(executor, *args, **kwargs):
    """APPLY_MODEL wrapper: runs the UNet with the answers of everything that acts at this noise level."""
    model = executor.class_obj
    named = named_arguments(executor, args, kwargs)
    options = named["transformer_options"]
    conds = options.get("cond_or_uncond") or (0,)
    dtype = model.manual_cast_dtype or model.get_dtype()
    call = Call.at_hand(named["x"], named["t"][0], conds, options, model.model_sampling, dtype)
    call = replace(call, unet=model.diffusion_model, run_plain=partial(run_plain, executor, args, kwargs))
    run = options.get(KEY) or Run()
    answers = {}
    for number, (thing, models) in enumerate(attached_to(model.current_patcher)):
        if thing.acts_at(call.sigma, call.model_sampling):
            prepared = run.prepared[number] if number < len(run.prepared) else None
            answers[number] = thing.answer(call, models, prepared)
    with answers_in_unet(model.diffusion_model, answers, call.num_frames, run.acted):
        return executor(*args, **kwargs)


def run_plain(executor, args: tuple, kwargs: dict, x: Tensor) -> Tensor:
    """`Call.run_plain`: the call again with other rows, the first of each cond for whatever else has rows."""
    named = named_arguments(executor, args, kwargs)
    rows, frames = named["x"].shape[0], named["x"].shape[0] // x.shape[0]

    def first(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == rows:
            return value[::frames]
        return {name: first(one) for name, one in value.items()} if isinstance(value, dict) else value

    options = {name: value for name, value in named["transformer_options"].items() if name not in OF_FRAMES}
    changes = {name: first(value) for name, value in named.items() if name != "transformer_options"}
    changes |= {"x": x, "control": None, "transformer_options": options}
    args, kwargs = call_with(executor, args, kwargs, **changes)
    return executor(*args, **kwargs)


def require_prepared(name: str, prepared: object) -> None:
    """Raises RuntimeError if a sampler came without what its run begins with."""
    if prepared is None:
        raise RuntimeError(
            f"{name} was not prepared: this sampler does not begin its runs as ComfyUI's own do. "
            "Use KSampler or SamplerCustom."
        )


def refuse_faulty_python(model_options: Mapping) -> None:
    """Raises RuntimeError where a compiled model would run as if nothing was attached, or still was."""
    if HIDES_CHANGES and COMPILED in model_options:
        raise RuntimeError(
            "Python 3.13.0 has a fault by which a compiled model does not see what is applied to it. Update Python to "
            "3.13.1 or newer, or take TorchCompileModel out."
        )


def require_acted(patcher: ModelPatcher, run: Run, sigmas: list[float]) -> None:
    """Raises RuntimeError for something that should have acted at one of these noise levels and never did."""
    model_sampling = patcher.get_model_object("model_sampling")
    for number, thing in enumerate(things_on(patcher)):
        expected = any(thing.acts_at(sigma, model_sampling) for sigma in sigmas)
        if expected and not run.acted[number]:
            raise RuntimeError(
                f"{thing.name} was applied but never ran, so the result would be as without it: unrelated stills, for "
                "a motion module. Another node replaced how this model is called; try without the nodes between the "
                "one that applies it and the sampler."
            )
