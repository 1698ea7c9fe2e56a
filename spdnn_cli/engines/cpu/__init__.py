"""Engines on the CPU, compiled by Numba."""
