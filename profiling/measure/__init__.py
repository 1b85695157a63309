"""What is timed: each stage alone, the loaders, the loader with the model; and the inputs for it."""
