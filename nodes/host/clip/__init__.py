"""The clip as a whole: context windows, the noise it starts from, prompts that travel along it."""
