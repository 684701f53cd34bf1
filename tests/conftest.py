"""What all tests share: the same random numbers each time, and no gradients."""

import os

import pytest
import torch

torch.set_grad_enabled(False)
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the other process has the other core
    os.environ["OMP_NUM_THREADS"] = "1"  # also of what is started from here


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    yield
