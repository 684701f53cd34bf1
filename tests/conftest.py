"""What all tests share: the same random numbers each time, and no gradients."""

import pytest
import torch

torch.set_grad_enabled(False)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    yield
