"""Map images and sentences to unit vectors of one space."""
