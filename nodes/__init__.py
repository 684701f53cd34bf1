"""What users see, one file for each theme; registry.py names all nodes."""
