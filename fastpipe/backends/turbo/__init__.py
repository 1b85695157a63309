"""turbo: our own JPEG crop decoder and resize (`fastpipe._turbo`), in threads that leave the GIL per batch."""
