"""Engines turn uint8 batches into augmented, normalised ones: one module per engine, one protocol."""
