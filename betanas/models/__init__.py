"""From architectures to modules: networks, their norms and depth, trained files."""
