"""HTML pages of a run and of an evaluation: each one file, without scripts and without a network."""
