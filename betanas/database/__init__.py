"""Studies in a relational database: trials, leases, rows, replicates, waiting."""
