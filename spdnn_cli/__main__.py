"""`python -m spdnn_cli` is `spdnn`."""

from spdnn_cli.cli import main

main()
