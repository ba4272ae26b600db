"""`python -m bridge` is `ws2mqtt`."""

import sys

from bridge.cli import main

if __name__ == "__main__":
    sys.exit(main())
