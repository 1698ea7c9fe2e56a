"""A network and its inputs: arrays, folding, the dataset file."""
