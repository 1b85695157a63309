"""Weights that a run starts from: where they are found, and how they get below a new classifier."""
