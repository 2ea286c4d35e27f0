"""Judge a model by an independent classifier: pass or fail."""
