"""Animate Anyone on a MODEL: its networks, the reference that self-attentions see, the poses that frames follow."""
