"""What this pack can do, measured: models that its own trainer makes, run by the host's nodes and its own."""
