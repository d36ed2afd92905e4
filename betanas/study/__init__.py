"""Study files: what to search, on which images, with which budget."""
