"""Turn words, images and classes into conditions of the denoiser."""
