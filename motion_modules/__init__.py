"""Motion modules of the AnimateDiff family in pure torch: files, description, network."""
