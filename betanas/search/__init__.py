"""Which kernel to train next, and where all that is known of a study is kept."""
