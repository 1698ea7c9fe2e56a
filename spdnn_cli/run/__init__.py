"""A measured run: ranks, processes or MPI, and what becomes of it."""
