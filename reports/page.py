"""The frame of every report's page, and its writing to disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from libs.core.errors import InputError
from libs.core.files import replacing
from reports.html_parts import Markup, join, tag
from reports.stylesheet import PAGE_SCRIPT, STYLESHEET

__all__ = ["document", "navigation", "write_page"]

_THEME_BUTTON = Markup('<button type="button" id="theme" hidden>light or dark</button>')


def navigation(sections: Sequence[tuple[str, str]]) -> Markup:
    """Return the links to the sections of a page (anchor, title), and the switch of its colours."""
    links = join(tag("li", tag("a", title, href=f"#{key}")) for key, title in sections)
    return tag("nav", tag("ul", links, tag("li", _THEME_BUTTON)), aria_label="Sections")


def document(title: str, parts: Iterable[object], *, live: bool = False) -> str:
    """Return a whole page with the reports' style; text among the parts is escaped.

    A live page is loaded again, by its script or without scripts by the browser.
    """
    head = join(
        [
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", title),
            tag("style", Markup(STYLESHEET)),
            Markup(f"<script>{PAGE_SCRIPT}</script>"),
            Markup('<noscript><meta http-equiv="refresh" content="10"></noscript>' if live else ""),
        ]
    )
    page = tag("a", "Skip to the content", href="#content", class_="skip") + join(parts)
    mark = ' data-live="1"' if live else ""
    return (
        f'<!doctype html>\n<html lang="en"{mark}><head>{head}</head>\n<body>{page}</body></html>\n'
    )


def write_page(path: Path, page: str) -> None:
    """Write a page so that a reader sees either the old one or the complete new one.

    Raises
    ------
    InputError
        The page cannot be written.
    """
    try:
        with replacing(path) as beside:
            beside.write_text(page, encoding="utf-8")
    except OSError as error:
        cause = f"{path} cannot be written ({error.strerror or error})"
        raise InputError(cause, "free space, or make the work directory writable") from error
