"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["aligned"]


def aligned(
    rows: Sequence[Sequence[str]], left: Collection[int] | None = None, *, ruled: bool = False
) -> list[str]:
    """Return a table as lines; its columns are aligned and two blanks apart.

    Parameters
    ----------
    rows : sequence of sequence of str
        Cells of each row, equally many in each; the first row is the heading.
    left : collection of int, optional
        Columns aligned to the left, the others to the right; None aligns all to the left.
    ruled : bool
        True draws a line below the heading.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if left is None or column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if ruled and lines:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return lines
