"""The images a study trains on: described without decoding, loaded as arrays, split once.

Importing this package stays cheap: torchvision and scikit-learn load where they are called.
"""

from betanas.data.describe import DatasetFacts, describe_dataset
from betanas.data.images import ImageSet
from betanas.data.load import load_images
from betanas.data.split import split_indices

__all__ = ["DatasetFacts", "ImageSet", "describe_dataset", "load_images", "split_indices"]
