"""Kernels of the recurrent layers."""
