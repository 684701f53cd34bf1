"""MotionLoRAs: low-rank changes to a motion module's linear layers (AnimateDiff, section 4.3), in pure torch."""
