"""Pieces of an HTML page: text is escaped unless it is :class:`Markup` already."""

from __future__ import annotations

import base64
import html
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from reports.style import DPI, MINUS, MISSING, TIMES, format_number

if TYPE_CHECKING:
    from reports.drawings import Drawing

__all__ = [
    "Markup",
    "badge",
    "cell",
    "details",
    "facts",
    "figure",
    "join",
    "listing",
    "table",
    "tag",
    "times",
]

STATUS_WORDS = {"incomplete": "not finished"}


class Markup(str):
    """HTML that may be inserted as it is."""

    __slots__ = ()

    def __add__(self, other: str) -> Markup:
        return Markup(str(self) + _escape(other))


def _escape(content: object) -> str:
    return str(content) if isinstance(content, Markup) else html.escape(str(content))


def join(parts: Iterable[object]) -> Markup:
    """Return parts one after the other; parts that are no :class:`Markup` are escaped."""
    return Markup("".join(_escape(part) for part in parts))


def tag(name: str, *content: object, **attributes: str) -> Markup:
    """Return an element.

    Parameters
    ----------
    name : str
        Name of the element, such as ``"td"``.
    *content : object
        Inner parts; text is escaped.
    **attributes : str
        Attributes; ``class_`` is class, ``aria_label`` is aria-label; empty ones are left out.
    """
    text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value
    )
    return Markup(f"<{name}{text}>{join(content)}</{name}>")


def cell(content: object, class_: str = "", value: float | None = None) -> Markup:
    """Return a cell of a table; ``value`` is the number it is sorted by, whatever its unit."""
    known = value is not None and math.isfinite(value)
    return tag("td", content, class_=class_, data_value=f"{value:.9g}" if known else "")


def table(
    heading: Sequence[str],
    rows: Iterable[Sequence[Markup] | Markup],
    *,
    class_: str = "",
    caption: str = "",
    text: bool = False,
) -> Markup:
    """Return a table that scrolls sideways when the window is narrow.

    Parameters
    ----------
    heading : sequence of str
        Headings of the columns; text after a newline is a unit.
    rows : iterable of sequences of Markup
        Cells made by :func:`cell`; the first is usually a row heading.
    class_, caption : str
        Class of the element, and its caption; both may be empty.
    text : bool
        True when all columns hold text, so that headings are aligned left.
    """
    rows = list(rows)
    texts = {
        column
        for row in rows
        if not isinstance(row, Markup)
        for column, inner in enumerate(row)
        if inner.startswith('<td class="text')
    }
    cells = []
    for column, label in enumerate(heading):
        name, _, unit = label.partition("\n")
        inner = join([name, tag("span", unit, class_="unit") if unit else ""])
        left = text or column == 0 or column in texts or label in ("Reason", "Template", "Status")
        cells.append(tag("th", inner, scope="col", class_="text" if left else ""))
    head = tag("thead", tag("tr", *cells))
    body = tag("tbody", *(row if isinstance(row, Markup) else tag("tr", *row) for row in rows))
    title = tag("caption", caption) if caption else ""
    return tag("div", tag("table", title, head, body, class_=class_), class_="scroll")


def figure(drawing: Drawing) -> Markup:
    """Return a figure that contains its PNG, in the size for which it was drawn."""
    content = drawing.path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    source = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    image = Markup(
        f'<img src="{source}" alt="{html.escape(drawing.alt)}" '
        f'width="{round(width * 96 / DPI)}" height="{round(height * 96 / DPI)}" loading="lazy">'
    )
    return tag("figure", image, tag("figcaption", drawing.title))


def badge(status: str, word: str = "") -> Markup:
    """Return the word for a status, coloured."""
    return tag("span", word or STATUS_WORDS.get(status, status), class_=f"badge {status}")


def details(title: str, content: Markup) -> Markup:
    """Return content that is folded away on the screen and shown in print."""
    return tag("details", tag("summary", title), content)


def facts(values: Mapping[str, object]) -> Markup:
    """Return names with values as a compact list; empty values are left out."""
    parts = []
    for name, value in values.items():
        text = ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else value
        if text not in (None, "", {}):
            parts.append(tag("div", tag("dt", str(name)), tag("dd", str(text))))
    return tag("dl", *parts, class_="facts") if parts else Markup("")


def listing(items: Iterable[str]) -> Markup:
    """Return a bulleted list."""
    return tag("ul", *(tag("li", item) for item in items))


def times(ratio: float) -> str:
    """Return a ratio in common form: times 15.8, divided by 20, or -12 % if close to one."""
    if not math.isfinite(ratio) or ratio <= 0:
        return MISSING
    if 2 / 3 < ratio < 1.5:
        return f"{100 * (ratio - 1):+.1f} %".replace("-", MINUS)
    return f"{TIMES}{format_number(ratio)}" if ratio > 1 else f"\u00f7{format_number(1 / ratio)}"
