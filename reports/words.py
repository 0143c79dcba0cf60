"""The words of the glossary on a page: links to them, and the list at its end."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from reports.html_parts import Markup, join, tag

__all__ = ["word", "words_section"]

# in a checkout a link to the page of the documentation
_GLOSSARY = Path(__file__).resolve().parent / "static" / "glossary.md"


@cache
def _entries() -> dict[str, tuple[str, str]]:
    """Return title and meaning of each entry by the names that it has."""
    found = {}
    text = _GLOSSARY.read_text(encoding="utf-8")
    for title, meaning in re.findall(r"^(\S[^\n]*)\n: (.*?)(?=\n\n|\Z)", text, re.M | re.S):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(meaning.split()))
        names = re.findall(r"[^,()]+", title)
        for name in names:
            found[name.strip().lower()] = (title, plain)
    return found


def _anchor(title: str) -> str:
    return "word-" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def word(name: str, shown: str = "") -> Markup:
    """Return a link to a word of the glossary.

    Parameters
    ----------
    name : str
        One of the names of an entry.
    shown : str
        Text of the link, if it is another one.
    """
    title, _ = _entries()[name.lower()]
    return tag("a", shown or name, href=f"#{_anchor(title)}", class_="word")


def words_section() -> Markup:
    """Return the glossary."""
    entries = dict(_entries().values())
    return tag(
        "dl",
        *(
            tag("div", tag("dt", title, id=_anchor(title)), tag("dd", _plain(meaning)))
            for title, meaning in entries.items()
        ),
        class_="words",
    )


def _plain(meaning: str) -> Markup:
    """Return a meaning with its words in code type."""
    parts = meaning.split("`")
    return join(tag("code", part) if i % 2 else part for i, part in enumerate(parts))
