"""The context as steps see it: the engine's, with the tools of `steps.tools`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selfcal.context import Context as EngineContext

if TYPE_CHECKING:  # a step's digest covers the tools that it asks for, not all there are
    from steps.tools import Tools

    Context = EngineContext[Tools]
else:
    Context = EngineContext

__all__ = ["Context"]
