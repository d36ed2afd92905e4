"""Figures: pure functions from data to a Matplotlib figure, and from there to SVG and PNG."""
