"""spdnn: sparse deep-network inference, as the Sparse DNN Graph Challenge measures it."""

__version__ = "0.1.0"
