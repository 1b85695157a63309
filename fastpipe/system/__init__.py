"""What the operating system allows and asks: CPUs, files that several processes share, signals, pipes."""
