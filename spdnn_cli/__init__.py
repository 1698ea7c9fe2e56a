"""spdnn: sparse deep-network inference, as the Sparse DNN Graph Challenge measures it."""

import time

__version__ = "0.1.0"
IMPORTED = time.monotonic()
"""When this process began to be spdnn, by `time.monotonic`."""
