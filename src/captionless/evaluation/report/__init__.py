"""Present what was measured: a web page, JSON and the model card."""
