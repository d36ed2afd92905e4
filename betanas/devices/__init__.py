"""Devices, the ranks that share a training, and where their random numbers come from."""
