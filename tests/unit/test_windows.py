"""Context windows as arithmetic: every frame covered, none twice, weights that sum to one."""

import math

from animatic_pack.nodes.timeline.windows import FUSE_METHODS, LOOPED, SCHEDULES, free_noise, fuse_weights, offset
import pytest
import torch

SHAPES = [(length, overlap) for length in (2, 3, 8, 15, 16) for overlap in (0, 1, 4, 7) if overlap < length]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("name", SCHEDULES)
def test_windows_cover_every_frame_and_hold_none_twice(name, stride):
    for length, overlap in SHAPES:
        for num_frames in range(length + 1, 201, 1 if length > 3 else 7):
            for step in (0, 1, 2, 5, 19):
                windows = SCHEDULES[name](num_frames, length, overlap, stride, step)
                case = (num_frames, length, overlap, step)
                assert {i for window in windows for i in window} == set(range(num_frames)), case
                for window in windows:
                    assert len(set(window)) == len(window), case
                    assert len(window) == length or (name == "batched" and window is windows[-1]), case
                    if name not in LOOPED:
                        assert window == sorted(window), case


def peers_open_windows(num_frames, length, overlap, stride, step):
    """AnimateDiff-Evolved's "looped_uniform" with closed_loop off, written down anew from its formula."""
    turn = sum(2.0 ** -(bit + 1) for bit in range(20) if step >> bit & 1)
    pad = round(num_frames * turn)
    windows = []
    level = 0
    while level < min(stride, math.ceil(math.log2(num_frames / length)) + 1):
        spread, at = 2**level, pad + math.floor(turn * 2**level)
        while at < num_frames + pad - overlap:
            windows.append([e % num_frames for e in range(at, at + length * spread, spread)])
            at += length * spread - overlap
        level += 1
    return windows


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_open_looped_windows_are_the_peers(stride):
    left_out = 0
    for length, overlap in SHAPES:
        for num_frames in range(length, 101):
            for step in range(20):
                peers = peers_open_windows(num_frames, length, overlap, stride, step)
                wanted = [window for window in peers if len(set(window)) == length]
                left_out += len(peers) - len(wanted)
                assert SCHEDULES["uniform looped, open"](num_frames, length, overlap, stride, step) == wanted
    assert (left_out > 0) == (stride > 1)


@pytest.mark.parametrize("name", LOOPED)
def test_a_loop_of_one_window_turns(name):
    """Each step begins elsewhere, and every frame is in one or two windows."""
    seen = set()
    for step in range(16):
        windows = SCHEDULES[name](16, 16, 4, 1, step)
        assert all(sorted(window) == list(range(16)) for window in windows) and len(windows) in (1, 2)
        seen.add(windows[0][0])
    assert seen == set(range(16))


@pytest.mark.parametrize("method", FUSE_METHODS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_weights_sum_to_one(name, method):
    for length, overlap in SHAPES:
        for num_frames in (length + 1, 2 * length, 37, 64, 101):
            if num_frames <= length:
                continue
            windows = SCHEDULES[name](num_frames, length, overlap, 2, 3)
            total = [0.0] * num_frames
            for window, shares in zip(windows, fuse_weights(windows, num_frames, method, overlap), strict=True):
                assert (shares > 0).all()
                for index, share in zip(window, shares.tolist(), strict=True):
                    total[index] += share
            assert all(math.isclose(t, 1.0, abs_tol=1e-9) for t in total)


def test_static_windows_stay_and_uniform_ones_move():
    at = {name: [SCHEDULES[name](64, 16, 4, 1, step) for step in range(8)] for name in SCHEDULES}
    assert all(windows == at["static standard"][0] for windows in at["static standard"])
    assert len({str(windows) for windows in at["uniform standard"]}) > 4
    assert len({str(windows) for windows in at["uniform looped"]}) > 4


def test_looped_windows_treat_the_seam_like_any_other_place():
    for step in range(16):
        windows = SCHEDULES["uniform looped"](64, 16, 4, 1, step)
        together = [sum(a in w and (a + 1) % 64 in w for w in windows) for a in range(64)]
        assert together[63] >= 1 and set(together) <= {1, 2}


def test_overlap_fades_one_window_into_the_next():
    windows = SCHEDULES["static standard"](28, 16, 4, 1, 0)
    first, second = fuse_weights(windows, 28, "overlap-linear", 4)
    assert torch.allclose(first[-4:], torch.tensor([0.8, 0.6, 0.4, 0.2], dtype=torch.float64))
    assert torch.allclose(second[:4], torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64))
    assert (first[:12] == 1).all() and (second[4:] == 1).all()


def test_offsets_visit_the_span_evenly():
    assert sorted(offset(step, 8) for step in range(8)) == list(range(8))


@pytest.mark.parametrize("num_frames", [17, 28, 64, 65])
def test_free_noise_is_the_first_window_in_another_order(num_frames):
    noise = torch.randn(num_frames, 4, 2, 2)
    shared = free_noise(noise, 16, 4, torch.Generator().manual_seed(1))
    assert torch.equal(shared[:16], noise[:16]) and shared.shape == noise.shape
    known = {tuple(frame.flatten().tolist()) for frame in noise[:16]}
    assert all(tuple(frame.flatten().tolist()) in known for frame in shared)
    assert torch.equal(shared, free_noise(noise, 16, 4, torch.Generator().manual_seed(1)))
    assert not torch.equal(shared, free_noise(noise, 16, 4, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("method", FUSE_METHODS)
@pytest.mark.parametrize("step", range(4))
def test_every_window_of_a_loop_counts_alike(method, step):
    windows = SCHEDULES["uniform looped"](24, 8, 4, 1, step)
    shares = fuse_weights(windows, 24, method, 4)
    assert any(window[0] == 0 for window in windows) or step
    assert all(torch.allclose(share, shares[0]) for share in shares)
