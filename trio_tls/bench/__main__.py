"""``python -m trio_tls.bench``: the same as ``trio-tls bench``."""

from __future__ import annotations

import sys

from ..cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
