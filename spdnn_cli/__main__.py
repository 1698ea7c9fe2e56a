"""`python -m spdnn_cli` is `spdnn`."""

from spdnn_cli.cli import main

if __name__ == "__main__":  # a worker imports this module under another name
    main()
