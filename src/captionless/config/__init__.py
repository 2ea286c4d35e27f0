"""Define every setting once: its name, type, range, default and help."""
