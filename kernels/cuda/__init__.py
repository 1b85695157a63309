"""The kernels on CUDA: their sources, how they are compiled and kept, planned and launched."""
