"""Where the value of a parameter came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["DEFAULT", "Layer", "Origin"]


class Layer(Enum):
    """What can set a parameter; each has precedence over those before it."""

    DEFAULT = "default"
    TEMPLATE = "template"
    USER = "user"


@dataclass(frozen=True)
class Origin:
    """The layer that set a parameter, and the name of it that records show.

    Attributes
    ----------
    layer : Layer
    name : str
        ``default``, ``templates/bright.yaml``, ``config.py: overrides``, ``--set`` ...
    """

    layer: Layer
    name: str

    @property
    def by_user(self) -> bool:
        """Whether the user set it, not a default or a template: that always has precedence."""
        return self.layer is Layer.USER

    def __str__(self) -> str:
        return self.name


DEFAULT = Origin(Layer.DEFAULT, "default")
