"""What clips are worth: the paper's metrics, rankings by people, and claims on a small world; pure torch."""
