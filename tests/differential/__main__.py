"""Print the table of differences as the manual has it."""

from __future__ import annotations

from .table import as_rst

if __name__ == "__main__":
    print(as_rst(), end="")
