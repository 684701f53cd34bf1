"""The only place that imports the host (comfy, folder_paths)."""
