"""The narrow UNet: SD1.5's classes at width 64 and three levels, the finest of which has no attention."""

from .widen import NARROW

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": NARROW,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 1, 1],
    "use_spatial_transformer": True,
    "legacy": False,
    "num_heads": 8,
    "context_dim": 768,
    "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
}
