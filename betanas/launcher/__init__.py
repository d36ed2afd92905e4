"""Processes of a training: started, followed, ended, and what becomes of those that fail."""
