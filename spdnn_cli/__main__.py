"""`python -m spdnn_cli` is `spdnn`."""

import os
import sys

if __name__ == "__main__":  # a worker imports this module under another name
    # `-m` looks for every import in the current folder first, where a user's random.py may lie.
    if sys.path and sys.path[0] in ("", os.getcwd()):
        sys.path.append(sys.path.pop(0))
    from spdnn_cli.cli import main

    main()
