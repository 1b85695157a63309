"""The random numbers of each batch, drawn on the host: steps, policies, levels, parameters."""
