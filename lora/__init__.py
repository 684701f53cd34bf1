"""MotionLoRA and domain-adapter files."""
