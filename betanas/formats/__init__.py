"""Trained models in the forms that other software reads, each written and really read back."""
