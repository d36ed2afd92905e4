"""One module for each job a user runs: the command line and the Python API call the same."""
