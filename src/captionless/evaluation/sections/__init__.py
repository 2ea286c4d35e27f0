"""The sections of an evaluation, one file each."""
