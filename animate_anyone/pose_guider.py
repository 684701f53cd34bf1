"""The Pose Guider of Animate Anyone (arXiv 2311.17117, section 3.2): pose pictures to features for the denoiser.

Two are known, told apart by their shapes. The released one (MooreThreads) is ControlNet's encoder of conditions and
adds its features after the denoiser's first convolution. The paper's own has four convolutions of 4 x 4 and is added
to the noisy latent. All four at stride 2, as the paper says, would end at half of the latent's size; here the last is
at 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import re

from torch import Tensor, nn

from ..motion_modules.values import check_names

LATENT_CHANNELS = 4
STEPS = 8  # pixels of a pose picture to one place of the latent


@dataclass(frozen=True)
class PoseGuiderLayout:
    """channels: of what each convolution gives but the last. strides: theirs. kernel: their size; last_kernel: its own.

    out_channels: of the features; the latent's 4, or those of the denoiser's first convolution.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    kernel: int
    last_kernel: int
    out_channels: int

    @property
    def adds_to_latent(self) -> bool:
        return self.out_channels == LATENT_CHANNELS


def released_layout(channels: tuple[int, ...] = (16, 32, 96, 256), out_channels: int = 320) -> PoseGuiderLayout:
    """MooreThreads': a convolution, then for each further number of channels one that keeps and one that halves."""
    widths, strides = [channels[0]], [1]
    for before, width in zip(channels, channels[1:], strict=False):
        widths += [before, width]
        strides += [1, 2]
    return PoseGuiderLayout(tuple(widths), tuple(strides), 3, 3, out_channels)


def paper_layout(channels: tuple[int, ...] = (16, 32, 64, 128)) -> PoseGuiderLayout:
    return PoseGuiderLayout(channels, (2, 2, 2, 1), 4, 1, LATENT_CHANNELS)


class PoseGuider(nn.Module):
    """Attribute names are the released file's keys: `conv_in`, `blocks` and `conv_out`, which begins at zero."""

    def __init__(self, layout: PoseGuiderLayout, operations=nn, dtype=None, device=None):
        super().__init__()
        self.layout = layout
        options = {"dtype": dtype, "device": device}
        into = (3, *layout.channels)
        convolutions = [
            # of an even size, such a one keeps or halves its input only with what `forward` adds at the edges
            operations.Conv2d(before, width, layout.kernel, stride=stride, padding=1, **options)
            for before, width, stride in zip(into, layout.channels, layout.strides, strict=False)
        ]
        self.conv_in = convolutions[0]
        self.blocks = nn.ModuleList(convolutions[1:])
        self.conv_out = operations.Conv2d(
            layout.channels[-1], layout.out_channels, layout.last_kernel, padding=layout.last_kernel // 2, **options
        )

    def forward(self, images: Tensor) -> Tensor:
        """(F, 3, 8 H, 8 W), from 0 to 1, to features (F, out_channels, H, W)."""
        x = images
        for convolution in (self.conv_in, *self.blocks):
            if self.layout.kernel % 2 == 0 and convolution.stride == (1, 1):
                x = nn.functional.pad(x, (0, 1, 0, 1))
            x = nn.functional.silu(convolution(x))
        return self.conv_out(x)


def layout_of(weights: Mapping[str, Tensor]) -> PoseGuiderLayout:
    """The layout that a file's shapes tell. Raises ValueError, naming the weight that does not fit."""
    first, last = weights.get("conv_in.weight"), weights.get("conv_out.weight")
    if first is None or last is None:
        missing = "conv_in.weight" if first is None else "conv_out.weight"
        raise ValueError(f"this Pose Guider misses {missing}; it may be cut short. Download it again.")
    numbers = [int(found[1]) for key in weights if (found := re.fullmatch(r"blocks\.(\d+)\.weight", key))]
    widths = [first.shape[0]]
    for number in range(max(numbers, default=-1) + 1):
        block = weights.get(f"blocks.{number}.weight")
        if block is None:
            raise ValueError(f"this Pose Guider misses blocks.{number}.weight; it may be cut short. Download it again.")
        widths.append(block.shape[0])
    kernel = first.shape[-1]
    if kernel == 4:
        layout = paper_layout(tuple(widths))
    else:
        layout = released_layout((widths[0], *widths[2::2]), last.shape[0])
    check_names(PoseGuider(layout, device="meta").state_dict(), weights, "Pose Guider")
    halved = layout.strides.count(2)
    if 2**halved != STEPS:
        raise ValueError(
            f"this Pose Guider halves its pictures {halved} times, and a latent has 1/{STEPS} of their size. "
            "Take pose_guider.pth of the open release."
        )
    return layout
