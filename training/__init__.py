"""Training of what this pack runs: the domain adapter, motion modules and MotionLoRAs, in pure torch.

The paper's three stages (Guo et al. 2023, arXiv 2307.04725, section 4) on the very classes that inference runs. No file
here knows a host: the base UNet, the VAE and the text encoder come in as a module and two functions.
"""
