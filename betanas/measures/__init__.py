"""Objectives that train nothing: results that are known, scores of untrained networks."""
