"""turbo: our own JPEG crop decoder and resize, in threads that leave the GIL for whole chunks."""
