"""The steps of ``vlass_cube``, in order."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from libs.core.errors import ConfigError
from selfcal.options import unknown_name
from selfcal.step import Step

__all__ = ["VLASS_STEPS", "vlass_steps"]

# module:class of each step; a module is imported when its step is asked for
_PLACES = {
    "vlass_startup": "steps.vlass.vlass_startup:VlassStartup",
    "edit_image_list_seip": "steps.vlass.image_list:EditImageList",
    "restore_pims": "steps.vlass.restore_pims:RestorePims",
    "edit_image_list_ccip": "steps.vlass.image_list:EditImageList",
    "make_images": "steps.vlass.make_images:MakeImages",
    "pbcor": "steps.vlass.plane_images:Pbcor",
    "rms_images": "steps.vlass.plane_images:RmsImages",
    "cutouts": "steps.vlass.plane_images:Cutouts",
    "analyze_stokes": "steps.vlass.analyze_stokes:AnalyzeStokes",
    "export": "steps.vlass.export:Export",
}

VLASS_STEPS = tuple(_PLACES)


def vlass_steps(names: Sequence[str] = ()) -> list[Step]:
    """Return the steps of ``vlass_cube``; all of them where none is named.

    Raises
    ------
    ConfigError
        A name is not known, or a step comes before one it needs.
    """
    steps: list[Step] = []
    seen: set[str] = set()
    for name in names or VLASS_STEPS:
        if name not in _PLACES:
            raise unknown_name("step", name, VLASS_STEPS)
        module, _, kind = _PLACES[name].partition(":")
        step: Step = getattr(importlib.import_module(module), kind)(name)
        missing = sorted(set(step.needs) - seen)
        if missing:
            raise ConfigError(f"step {name} needs {', '.join(missing)} before it", "reorder steps")
        steps.append(step)
        seen.add(name)
    return steps
