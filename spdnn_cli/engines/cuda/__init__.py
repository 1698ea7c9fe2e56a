"""Engines on an NVIDIA GPU: CuPy raw kernels from `kernels/`."""
