"""Generate images from prompts."""
