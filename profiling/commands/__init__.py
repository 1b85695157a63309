"""The commands of `fastpipe-profile` except `run`, and their shared parts: options, console, exit status."""
