"""BetaNAS searches for the convolutional network that fits your images, hardware and time."""

__version__ = "0.1.0"
