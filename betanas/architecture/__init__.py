"""Families, kernels and architectures as data: numpy and scipy only."""
