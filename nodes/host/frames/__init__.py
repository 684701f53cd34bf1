"""Frames and files: loading and saving them with the host's folders, progress and metadata."""
