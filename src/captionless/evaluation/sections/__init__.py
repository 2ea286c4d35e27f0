"""The sections of an evaluation, one module per section."""
