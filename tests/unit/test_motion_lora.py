"""MotionLoRA files of every spelling, their sums, and the tools that take them apart."""

from animatic_pack.lora.files import original_state_dict, read_motion_lora
from animatic_pack.lora.low_rank import LowRank, approximate, combine, truncate
from animatic_pack.lora.merge import average, bake, extract, reduce, relative_error
from animatic_pack.nodes.timeline.blocks import block_number, check_blocks, parse_block_numbers
from animatic_pack.nodes.timeline.keyframes import CURVES, Keyframes, check_range
import pytest
import reference
from small_models import motion_lora, motion_state_dict
import torch

SD15 = (32, 64)


def spelled(lora, spelling):
    """The same changes in the keys of a file family. lora: {target path: (up, down)}."""
    written = {}
    for path, (up, down) in lora.items():
        written.update(spelling(path, up, down))
    return written


def original(path, up, down):
    return halves(processor(path), up, down, "_lora.up.weight", "_lora.down.weight")


def halves(name, up, down, up_suffix, down_suffix):
    return {name + up_suffix: up, name + down_suffix: down}


def processor(path):
    if path.endswith("to_out.0"):
        return path.removesuffix("to_out.0") + "processor.to_out"
    for plain, named in (
        (".to_", ".processor.to_"),
        (".ff.net.0.proj", ".ff.net.0.processor.proj"),
        (".ff.net.2", ".ff.net.processor.2"),
    ):
        path = path.replace(plain, named)
    return path


def motion_director(path, up, down):
    name = path.replace("to_out.0", "to_out.processor.0") if path.endswith("to_out.0") else processor(path)
    return halves(name, up, down, "_lora.up.weight", "_lora.down.weight")


def kohya(prefix):
    def spell(path, up, down):
        name = prefix + path.replace(".", "_")
        return {**halves(name, up, down, ".lora_up.weight", ".lora_down.weight"), name + ".alpha": torch.tensor(2.0)}

    return spell


def in_diffusers(path):
    path = path.replace(".temporal_transformer", "").replace("attention_blocks.0", "attn1")
    return path.replace("attention_blocks.1", "attn2")


def diffusers(path, up, down):
    name = "unet." + processor(in_diffusers(path))
    return halves(name, up, down, "_lora.up.weight", "_lora.down.weight")


def peft(prefix):
    return lambda path, up, down: halves(prefix + in_diffusers(path), up, down, ".lora_B.weight", ".lora_A.weight")


SPELLINGS = {
    "original": (original, None),
    "trainer": (lambda p, u, d: {"module." + k: v for k, v in original(p, u, d).items()}, None),
    "MotionDirector": (motion_director, None),
    "kohya": (kohya("lora_unet_"), 2.0),
    "A1111": (kohya(""), 2.0),
    "diffusers": (diffusers, None),
    "peft": (peft("unet."), None),
    "peft base_model": (peft("base_model.model."), None),
}


@pytest.mark.parametrize("feed_forward", [False, True], ids=["attention", "with feed-forward"])
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_leads_to_the_same_change(name, feed_forward):
    spelling, alpha = SPELLINGS[name]
    lora = motion_lora(SD15, rank=4, mid=True, feed_forward=feed_forward)
    read = read_motion_lora(spelled(lora, spelling))
    assert set(read) == {f"{path}.weight" for path in lora}
    for path, (up, down) in lora.items():
        expected = (up.double() @ down.double()) * (1.0 if alpha is None else alpha / 4)
        assert reference.relative_error(read[f"{path}.weight"].difference(), expected) < 1e-6


def test_ranks_are_inferred_per_target():
    lora = motion_lora(SD15, rank=4) | motion_lora(SD15, rank=9, only="down_blocks.0")
    read = read_motion_lora(spelled(lora, original))
    assert {change.rank for change in read.values()} == {4, 9}


def test_state_dict_nest_and_peft_alpha():
    lora = motion_lora(SD15, rank=4)
    assert len(read_motion_lora({"state_dict": spelled(lora, original)})) == len(lora)
    metadata = {"lora_adapter_metadata": '{"unet.lora_alpha": 8, "unet.r": 4}'}
    read = read_motion_lora(spelled(lora, peft("unet.")), metadata)
    assert {change.scale for change in read.values()} == {2.0}


FIRST = next(iter(motion_lora(SD15, rank=4)))
NAME = processor(FIRST) + "_lora"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({f"{NAME}.up.weight": None}, "has no up weights for down_blocks.0"),
        ({f"{NAME}.down.weight": None}, "has no down weights for down_blocks.0"),
        ({f"{NAME}.up.weight": torch.zeros(32, 3)}, "ranks do not match at down_blocks.0"),
        ({f"{NAME}.up.weight": torch.zeros(32)}, "ranks do not match"),
        ({f"{NAME}.up.weight": torch.zeros(32, 0), f"{NAME}.down.weight": torch.zeros(0, 32)}, "has rank 0"),
        ({f"{NAME}.up.weight": torch.full((32, 4), torch.nan)}, "not numbers"),
        ({f"{NAME}.down.weight": torch.full((4, 32), torch.inf)}, "not numbers"),
    ],
)
def test_unusable_weights_are_named(changes, message):
    weights = {**spelled(motion_lora(SD15, rank=4), original), **changes}
    with pytest.raises(ValueError, match=message):
        read_motion_lora({key: value for key, value in weights.items() if value is not None})


@pytest.mark.parametrize(
    "weights, message",
    [
        (
            {
                "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight": torch.zeros(
                    4, 32
                )
            },
            "a LoRA for the image model",
        ),
        (motion_state_dict(SD15), "this file is a motion module"),
        ({"model.diffusion_model.x": torch.zeros(1)}, "whole checkpoint"),
        ({}, "empty"),
        ({"state_dict": None}, "empty"),
        ({"state_dict": torch.zeros(3)}, "something else"),
    ],
)
def test_other_files_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        read_motion_lora(weights)


def random_lora(rank, seed, shape=(48, 32)):
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": LowRank(
            torch.randn(shape[0], rank, generator=generator), torch.randn(rank, shape[1], generator=generator), 3.0
        )
    }


def test_sum_is_exact_and_in_any_order():
    loras = [(random_lora(4, 1), 0.7), (random_lora(6, 2), 0.3), (random_lora(2, 3), -0.5)]
    expected = sum(s * lora["x"].difference().double() for lora, s in loras)
    for order in (loras, loras[::-1]):
        combined = combine(order)["x"]
        assert combined.rank == 12
        assert reference.relative_error(combined.difference(), expected) < 1e-6


def test_svd_at_full_rank_loses_nothing_and_below_it_what_it_says():
    loras = [(random_lora(4, 1), 0.7), (random_lora(6, 2), 0.3)]
    whole = combine(loras)["x"].difference()
    for rank in (1, 3, 9, 10, 50):
        ((_, change, lost, total),) = reduce(loras, rank)
        true = (whole - change.difference()).norm() / whole.norm()
        assert relative_error(lost, total) == pytest.approx(true.item(), abs=2e-6)
        assert change.rank == min(rank, 10)
        assert (true < 1e-5) == (rank >= 10)
        best = torch.linalg.svdvals(whole.double())[rank:].norm() / whole.double().norm()
        assert true.item() == pytest.approx(best.item(), abs=1e-5), "no change of this rank is nearer"


def test_extraction_finds_what_was_added():
    base = motion_state_dict(SD15)
    lora = read_motion_lora(spelled(motion_lora(SD15, rank=4), original))
    tuned = bake(base, lora)
    found = {target: (change, lost, whole) for target, change, lost, whole in extract(tuned, base, 4)}
    assert set(found) == set(lora)
    for target, (change, lost, whole) in found.items():
        assert reference.relative_error(change.difference(), lora[target].difference()) < 1e-4
        assert relative_error(lost, whole) < 1e-4
    target, change, lost, whole = next(extract(tuned, base, 2))
    difference = tuned[target] - base[target]
    assert relative_error(lost, whole) == pytest.approx(
        ((difference - change.difference()).norm() / difference.norm()).item(), abs=1e-5
    )
    assert approximate(difference, 32)[1] < 1e-9 * whole
    assert truncate(change, 1)[0].rank == 1


def test_saved_keys_are_the_original_ones_and_read_back():
    lora = motion_lora(SD15, rank=4, mid=True, feed_forward=True)
    read = read_motion_lora(spelled(lora, kohya("lora_unet_")))
    written = original_state_dict(read)
    assert set(written) == set(spelled(lora, original))
    again = read_motion_lora(written)
    for target, change in read.items():
        assert reference.relative_error(again[target].difference(), change.difference()) < 1e-6
    assert {key: value.tolist() for key, value in original_state_dict(again).items()} == {
        k: v.tolist() for k, v in written.items()
    }


def test_average_and_shares_of_blocks():
    first, second = motion_state_dict(SD15, seed=1), motion_state_dict(SD15, seed=2)
    shares = parse_block_numbers("up_blocks.0 = 1\n\ndown_blocks.0: 0\nup_blocks.0.motion_modules.1 = 0.25")
    merged = average(first, second, lambda key: block_number(key, 0.5, shares))
    for key, value in merged.items():
        share = 0.0 if key.startswith("down_blocks.0.") or key.endswith(".pe") else 0.5
        if key.startswith("up_blocks.0.") and not key.endswith(".pe"):
            share = 0.25 if key.startswith("up_blocks.0.motion_modules.1.") else 1.0
        assert torch.allclose(value, first[key] * (1 - share) + second[key] * share, atol=1e-6), key


@pytest.mark.parametrize("line", ["down_blocks.0", "down_blocks.0 = much", "down_blocks.0 = 1.2.3", "= 1"])
def test_a_line_that_is_no_block_share_is_quoted(line):
    with pytest.raises(ValueError, match="is not a block and a number"):
        parse_block_numbers(line)


@pytest.mark.parametrize("block", ["middle", "down_blocks.9", "mid_block", "down_blocks.0.motion"])
def test_a_block_that_is_not_there_is_named(block):
    keys, sites = motion_state_dict(SD15), ("down_blocks.0.motion_modules.0", "down_blocks.1.motion_modules.0")
    with pytest.raises(ValueError, match=f"shares: this motion module has no block {block}; it has down_blocks.0"):
        check_blocks([block], keys, sites, "shares")
    check_blocks(["down_blocks.0.motion_modules.0", "up_blocks", sorted(keys)[0]], keys, sites, "shares")


def test_merge_of_different_kinds_is_named():
    with pytest.raises(ValueError, match="only one of them has mid_block"):
        average(motion_state_dict(SD15), motion_state_dict(SD15, mid=True), lambda key: 0.5)
    first = motion_state_dict(SD15)
    key = next(key for key in first if key.endswith("proj_in.weight"))
    with pytest.raises(ValueError, match=f"have {key} in different sizes"):
        average(first, {**first, key: first[key][:, :2]}, lambda key: 0.5)


@pytest.mark.parametrize("curve", CURVES)
def test_schedule_goes_from_start_to_end(curve):
    schedule = Keyframes((0.25, 0.75), (0.2, 1.0), curve)
    values = [schedule.at(i / 40) for i in range(41)]
    assert values[:11] == [0.2] * 11 and values[30:] == [1.0] * 11
    assert values == sorted(values)


def test_flat_schedule_is_known_as_such():
    assert Keyframes((0.0, 1.0), (0.5, 0.5)).is_constant and not Keyframes((0.0, 1.0), (0.5, 0.6)).is_constant
    with pytest.raises(ValueError, match="must be smaller"):
        check_range(0.7, 0.7)
