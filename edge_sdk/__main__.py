"""``python -m edge_sdk`` is the ``edge-sdk`` command."""

from edge_sdk.cli import main

if __name__ == "__main__":
    main()
