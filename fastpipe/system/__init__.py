"""What the operating system allows and requests: CPUs, files that processes share, signals, pipes."""
