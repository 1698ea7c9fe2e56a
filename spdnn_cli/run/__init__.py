"""A measured run: alone, in processes or under MPI, with its verification and record."""
