"""Motion modules and MotionLoRAs on a MODEL: loading, attaching, what they do while it samples, saving."""
