"""Present the results of an evaluation as a web page, as JSON and in the model card."""
