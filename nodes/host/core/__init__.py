"""What everything else here stands on: the UNet and its calls, patchers, latents, folders, files, progress."""
