"""Find, check, decode and crop the images of a folder, and find their labels. Does not import torch."""

from captionless.data.arrays import ImageArrays, Visitor, denormalise, normalise, read_arrays
from captionless.data.crop import crop_square
from captionless.data.decode import decode_image
from captionless.data.folder import find_images
from captionless.data.images import (
    Decoding,
    ImageFile,
    SkippedFile,
    is_held_out,
    read_images,
    sample_images,
    write_images_report,
)
from captionless.data.labels import Labels, find_labels

__all__ = [
    "Decoding",
    "ImageArrays",
    "ImageFile",
    "Labels",
    "SkippedFile",
    "Visitor",
    "crop_square",
    "decode_image",
    "denormalise",
    "find_images",
    "find_labels",
    "is_held_out",
    "normalise",
    "read_arrays",
    "read_images",
    "sample_images",
    "write_images_report",
]
