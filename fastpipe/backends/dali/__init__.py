"""NVIDIA DALI: decoding in its own threads, crops and sizes by request."""
