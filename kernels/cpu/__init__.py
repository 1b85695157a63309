"""The kernels on the CPU: one module per kind of work, compiled by numba at the first use."""
