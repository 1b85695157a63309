"""The kernels on CUDA: sources, compilation, storage, plans and launches."""
