"""Animate Anyone (Hu et al. 2023, arXiv 2311.17117) in pure torch: its files, Pose Guider, reference and poses."""
