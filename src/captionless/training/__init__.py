"""Train a model on a folder of images."""
