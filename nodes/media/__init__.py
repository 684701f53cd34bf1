"""Frames to and from files; knows neither the host nor the nodes."""
