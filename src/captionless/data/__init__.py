"""Read a folder of images: find, decode, check and crop them."""
