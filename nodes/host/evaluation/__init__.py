"""The small world's networks, of the host's own classes."""
