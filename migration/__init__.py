"""Workflows of other AnimateDiff packs written anew for this pack and stock ComfyUI; pure, standard library alone."""
