"""The challenge's data: raw files, regenerated inputs and networks, their conversion."""
