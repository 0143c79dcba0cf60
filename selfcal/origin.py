"""Origin of the value of a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["DEFAULT", "Layer", "Origin"]


class Layer(Enum):
    """Sources of a parameter's value; each has precedence over those before it."""

    DEFAULT = "default"
    TEMPLATE = "template"
    USER = "user"


@dataclass(frozen=True)
class Origin:
    """The layer that set a parameter, with its name in records.

    Attributes
    ----------
    layer : Layer
    name : str
        Name, ``default``, ``templates/bright.yaml``, ``config.py: overrides``, ``--set`` ...
    """

    layer: Layer
    name: str

    @property
    def by_user(self) -> bool:
        """True when the user set it, which has precedence over defaults and templates."""
        return self.layer is Layer.USER

    def __str__(self) -> str:
        return self.name


DEFAULT = Origin(Layer.DEFAULT, "default")
