"""Digests of the code's behaviour: of all code, and of the code that a step can execute.

A digest covers the parsed code without docstrings, comments and layout, and the parsed content of
data files. It is the same in every installation and under every version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from selfcal import __version__
from selfcal.yaml_files import read_text_mapping

__all__ = ["Code", "code_version", "step_version"]

log = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = ("selfcal", "libs", "steps")
_DATA = "templates"
_MODULE = re.compile(rf"(?:{'|'.join(_FOLDERS)})(?:\.\w+)+")
_DATA_FILE = re.compile(r"\w+\.yaml")
_FORM = 1  # version of the file that keeps parsed results
# fields that do not affect behaviour, or that some versions of Python lack
_LEFT_OUT = ("type_comment", "type_ignores", "kind", "ctx", "lineno", "col_offset")


@dataclass(frozen=True)
class _Module:
    """Contents of one file.

    ``names`` are the modules, or names within modules, that it imports; ``runs`` and ``data`` are
    texts that may name a module it runs, or a data file; ``tools`` are the attributes of the run's
    tools that it uses.
    """

    digest: str
    names: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()


class Code:
    """The code in a folder.

    Parameters
    ----------
    root : Path
        Folder with the packages and the templates.
    tools : mapping of str to sequence of str, optional
        Modules that may implement each attribute of a run's tools; no step imports them.
    """

    def __init__(
        self, root: Path = _ROOT, tools: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self.root = root
        self.tools = dict(tools or {})

    @cached_property
    def modules(self) -> Mapping[str, _Module]:
        """Every module by name, and every data file by the name of the file."""
        kept = _Kept(self.root)
        found = {}
        for folder in _FOLDERS:
            for path in sorted((self.root / folder).rglob("*.py")):
                parts = path.relative_to(self.root).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found[name] = kept.get(path)
        for path in sorted((self.root / _DATA).glob("*.yaml")):
            found[path.name] = kept.get(path)
        kept.save()
        return found

    @property
    def version(self) -> str:
        """Return the version and a digest of all code and data."""
        return self._version(self.modules)

    def of(self, module: str) -> str:
        """Return the version and a digest of a module and all code that it can execute.

        This covers its imports at any depth, modules that a text names (``libs.casa.worker``) and
        runs, the modules behind the tools it uses, and the data files it names. A package counts
        when something is imported from it, not when only a module within it is.
        """
        return self._version(self.reached(module))

    def reached(self, module: str) -> set[str]:
        """Return the names of the modules and data files behind `of`."""
        found: set[str] = set()
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found.add(name)
            entry = self.modules[name]
            behind = [module for tool in entry.tools for module in self.tools.get(tool, ())]
            waiting += [known for one in (*entry.names, *behind) if (known := self._known(one))]
            waiting += [one for one in (*entry.runs, *entry.data) if one in self.modules]
        return found

    def _known(self, name: str) -> str:
        """Return the module that a name is, or is defined in; empty outside the project."""
        if name in self.modules:
            return name
        parent = name.rpartition(".")[0]
        return parent if parent in self.modules else ""

    def _version(self, names: Any) -> str:
        digest = hashlib.sha256()
        for name in sorted(names):
            digest.update(f"{name} {self.modules[name].digest}\n".encode())
        return f"{__version__}+{digest.hexdigest()[:12]}"


class _Kept:
    """Parsed results, kept beside the compiled code, because parsing everything takes seconds."""

    def __init__(self, root: Path) -> None:
        source = root / "selfcal" / "code_version.py"
        self.path = Path(importlib.util.cache_from_source(source)).with_name("code_version.json")
        self.root = root
        self.old: dict[str, Any] = {}
        self.new: dict[str, Any] = {}
        # also of this file, because it defines what is read from the others
        self.form = [_FORM, *_stamp(Path(__file__))]
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if isinstance(content, dict) and content.get("form") == self.form:
            self.old = content["files"]

    def get(self, path: Path) -> _Module:
        """Return the contents of a file, which is parsed only if it has changed."""
        key, stamp = path.relative_to(self.root).as_posix(), _stamp(path)
        entry = self.old.get(key)
        if entry and entry["stamp"] == stamp:
            module = _Module(**{k: v for k, v in entry.items() if k != "stamp"})
        else:
            module = _read(path)
        self.new[key] = {"stamp": stamp, **asdict(module)}
        return module

    def save(self) -> None:
        """Save the results; if that is impossible, files are parsed again the next time."""
        files = json.loads(json.dumps(self.new))
        if files == self.old:
            return
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"form": self.form, "files": files}), encoding="utf-8")
            part.replace(self.path)
        except OSError as error:
            log.info("digests of the code are not kept: %s", error)


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read(path: Path) -> _Module:
    if path.suffix == ".yaml":
        content = read_text_mapping(path)
        return _Module(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())
    tree = ast.parse(path.read_bytes())
    _drop_docstrings(tree)
    digest = hashlib.sha256("".join(_written(tree)).encode("utf-8", "surrogatepass")).hexdigest()
    names, runs, data, tools = set(), set(), set(), set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _MODULE.fullmatch(node.value):
                runs.add(node.value)
            elif _DATA_FILE.fullmatch(node.value):
                data.add(node.value)
        elif isinstance(node, ast.Attribute):
            owner = node.value
            if (isinstance(owner, ast.Attribute) and owner.attr == "tools") or (
                isinstance(owner, ast.Name) and owner.id == "tools"
            ):
                tools.add(node.attr)
    wanted = {name for name in names if name.split(".")[0] in _FOLDERS}
    found = (wanted, runs, data, tools)
    return _Module(digest, *(tuple(sorted(names)) for names in found))


def _drop_docstrings(tree: ast.AST) -> None:
    """Remove texts that stand as a statement: docstrings, including those of attributes."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                one
                for one in body
                if not (
                    isinstance(one, ast.Expr)
                    and isinstance(one.value, ast.Constant)
                    and isinstance(one.value.value, str)
                )
            ]


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through the nodes except those that only a type checker uses."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def _written(value: Any) -> Iterator[str]:
    """Yield a tree as text without empty fields, in which versions of Python differ."""
    if isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name in value._fields:
            field = getattr(value, name, None)
            if field is None and not isinstance(value, ast.Constant):
                continue
            if field == [] or name in _LEFT_OUT:
                continue
            yield f"{name}="
            yield from _written(field)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for one in value:
            yield from _written(one)
            yield ","
        yield "]"
    else:
        yield repr(value)


@lru_cache(maxsize=1)
def _code() -> Code:
    return Code()


def code_version() -> str:
    """Return the version and a digest of all code and templates."""
    return _code().version


def step_version(module: str, tools: Mapping[str, Sequence[str]]) -> str:
    """Return the version and a digest of the code that a step defined in a module can execute.

    Parameters
    ----------
    module : str
        Name of the module; one of another project stands for all code.
    tools : mapping of str to sequence of str
        Modules behind each tool, as in `Code`.
    """
    code = _code()
    if module not in code.modules:
        return code_version()
    code.tools = dict(tools)
    return code.of(module)
