"""What `fastpipe-train` does with a finished run instead of training, one file for each command."""
