"""Reading of YAML without surprises: text stays text, whatever else YAML would make of it."""

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
    """Loader that refuses a key given twice, of which YAML would silently keep the last."""

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
    """Loader that leaves every scalar as text, which the kind of its option interprets.

    YAML 1.1, which PyYAML reads, takes On for true, 1:30 for 90 and 010 for 8.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "<": [_MERGE]
    }


class _ValueLoader(_Loader):
    """Loader that knows true, false, null and numbers as in JSON; everything else is text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "<": [_MERGE]
    }


# << that is not a key is text like any other
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
        Remedy that the error names when the file holds something other than a mapping.

    Raises
    ------
    ConfigError
        The file does not parse, is not a mapping or gives a key twice.
    """
    return _read(path, _TextLoader, remedy)


def read_value_mapping(path: Path, remedy: str = "write key: value") -> dict[str, Any]:
    """Return the mapping in a YAML file whose kinds no options define.

    Numbers, true, false and null are those of JSON; everything else is text:
    ``walltime: 12:00:00``, ``account: 0123``.

    Raises
    ------
    ConfigError
        The file does not parse, is not a mapping or gives a key twice.
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

    Text that begins like a list, a mapping or a quoted text is YAML with all scalars as text; other
    text is unchanged, without the blanks around it.

    Raises
    ------
    yaml.YAMLError
        The text begins like YAML but does not parse.
    """
    text = text.strip()
    if text[:1] in ("[", "{", "'", '"'):
        return yaml.load(text, _TextLoader)
    return text
