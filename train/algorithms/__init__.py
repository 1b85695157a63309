"""One file per method: a pure function, then a thin class or module, then a key in the recipe."""
