"""How a model is found, fed and read."""
