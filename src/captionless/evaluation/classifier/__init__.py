"""A classifier trained on labelled photographs, which shares nothing with the encoder."""
