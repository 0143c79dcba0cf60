"""YAML that means what is written: text stays text, whatever else it might stand for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from libs.core.errors import ConfigError

__all__ = ["read_text_mapping", "read_value_mapping", "text_value"]

_MERGE = ("tag:yaml.org,2002:merge", re.compile("^<<$"))
_NUMBER = r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would keep the last without a word."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE[0]:
                if key.value in seen:
                    raise yaml.composer.ComposerError(
                        "in a mapping", node.start_mark, f"'{key.value}' is there twice",
                        key.start_mark,
                    )  # fmt: skip
                seen.add(key.value)
        return node


class _TextLoader(_Loader):
    """Leaves every scalar as text: the kind of its option says what it is.

    YAML 1.1, which PyYAML reads, takes On for true, 1:30 for 90 and 010 for 8.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "<": [_MERGE]
    }


class _ValueLoader(_Loader):
    """Knows true, false, null and numbers as JSON writes them; everything else is text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "<": [_MERGE]
    }


# << that is no key is text like any other
_Loader.add_constructor(_MERGE[0], lambda loader, node: node.value)

for _tag, _pattern in (
    ("null", "null|~|"),
    ("bool", "true|false"),
    ("int", "[-+]?(?:0|[1-9][0-9]*)"),
    ("float", _NUMBER),
):
    _ValueLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), None
    )


def read_text_mapping(path: Path, remedy: str = "write key: value") -> dict[str, Any]:
    """Return the mapping in a YAML file, every scalar in it as text; an empty file is empty.

    Parameters
    ----------
    path : Path
    remedy : str
        What the error says when the file holds something else than a mapping.

    Raises
    ------
    ConfigError
        The file does not parse, is no mapping or gives a key twice.
    """
    return _read(path, _TextLoader, remedy)


def read_value_mapping(path: Path, remedy: str = "write key: value") -> dict[str, Any]:
    """Return the mapping in a YAML file for which there are no options that know its kinds.

    Numbers, true, false and null are what JSON would take for them; everything else is text:
    ``walltime: 12:00:00``, ``account: 0123``.

    Raises
    ------
    ConfigError
        The file does not parse, is no mapping or gives a key twice.
    """
    return _read(path, _ValueLoader, remedy)


def _read(path: Path, loader: type[_Loader], remedy: str) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid YAML ({error})", "correct it") from error
    if content in (None, ""):
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} is not a mapping of keys to values", remedy)
    return content


def text_value(text: str) -> Any:
    """Return the value of ``KEY=TEXT`` on a command line.

    What begins like a list, a mapping or a quoted text is YAML, all scalars in it text; anything
    else is text as it stands, without the blanks around it.

    Raises
    ------
    yaml.YAMLError
        It begins so and does not parse.
    """
    text = text.strip()
    if text[:1] in ("[", "{", "'", '"'):
        return yaml.load(text, _TextLoader)
    return text
