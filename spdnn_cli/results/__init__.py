"""Results: the record of a run, and the files that hold records."""
