"""Read a folder of images: find, decode, check and crop them, and find their labels. Imports no torch."""

from captionless.data.arrays import ImageArrays, denormalise, normalise, read_arrays
from captionless.data.decode import decode_image, square
from captionless.data.folder import find_images
from captionless.data.images import (
    ImageFile,
    SkippedFile,
    is_held_out,
    read_images,
    sample_images,
    write_images_report,
)
from captionless.data.labels import Labels, find_labels

__all__ = [
    "ImageArrays",
    "ImageFile",
    "Labels",
    "SkippedFile",
    "decode_image",
    "denormalise",
    "find_images",
    "find_labels",
    "is_held_out",
    "normalise",
    "read_arrays",
    "read_images",
    "sample_images",
    "square",
    "write_images_report",
]
