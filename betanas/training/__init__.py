"""Training one architecture under a budget: the only folder that needs torch."""
