"""The counter of copies between devices, with PyTorch's device that holds nothing as the other one."""

from device_copies import DeviceCopies
import torch


def test_copies_between_devices_are_counted_and_no_others():
    here, there = torch.zeros(2, 3), torch.zeros(2, 3, device="meta")
    with DeviceCopies() as copies:
        here.to("meta")
        here.to("meta", torch.float16)
        there.copy_(here)
        here.half().copy_(here)
        there + there.half()
    assert copies.counts == {("cpu", "meta", (2, 3)): 3}
