"""What training needs of ComfyUI: a checkpoint opened as plain layers."""
