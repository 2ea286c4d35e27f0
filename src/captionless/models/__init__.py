"""The denoising networks and what is done to their weights."""
