"""The program from Python: what the commands do, with results and exceptions in place of text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from libs.core.errors import ConfigError
from selfcal.options import Option, unknown_name
from selfcal.paths import absolute
from steps import STEPS
from steps.api_result import Result
from steps.commands.command_line import Reports, RunArguments

if TYPE_CHECKING:
    from libs.inputs.preview import Preview
    from steps.api_solutions import Solutions

__all__ = ["Api"]


class Api:
    """The functions that ``import selfcal`` offers.

    Parameters
    ----------
    reports : Reports
        Writers of reports, which steps know nothing of.
    """

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def run(
        self,
        vis: str | Sequence[str] | None = None,
        *,
        config: str | Path | None = None,
        start: str = "",
        until: str = "",
        only: str = "",
        restart: bool = False,
        quiet: bool = False,
        **settings: Any,
    ) -> Result:
        """Self-calibrate data as ``auto-selfcal`` does; finished steps are reused.

        Parameters
        ----------
        vis : str or list of str, optional
            Data; it may also be in the config.
        config : path, optional
            Config file, over which the other arguments win.
        start, until, only : str
            Step from which to run on, last step, only step.
        restart : bool
            True runs every step anew.
        quiet : bool
            True prints nothing.
        **settings
            Keys of a config (``field="NGC 1"``), or steps with their parameters
            (``p1={"solint": "30s"}``).

        Returns
        -------
        Result

        Raises
        ------
        SelfcalError
            ``ConfigError`` where an argument is wrong, ``StepFailed`` where a step failed, with the
            cause and the remedy.

        Examples
        --------
        >>> import selfcal
        >>> result = selfcal.run("my.ms", field="NGC 1", p1={"solint": "30s"})  # doctest: +SKIP
        >>> result.summary["final"]["dynamic_range"]  # doctest: +SKIP
        """
        from steps.commands.run import run_config
        from steps.run_options import RUN_OPTIONS, load_run_config

        given = dict(settings) if vis is None else {"vis": vis, **settings}
        path = Path(config) if config else None
        loaded = load_run_config(path) if path else {}
        arguments = _arguments(
            _assignments(given, RUN_OPTIONS, STEPS), quiet=quiet,
            start=start, until=until, only=only, restart=restart,
        )  # fmt: skip
        found = run_config(path, loaded, arguments, self._reports)
        return Result(found.workdir)

    def field(
        self, config: str | Path, *, restart: bool = False, quiet: bool = False, **settings: Any
    ) -> Result:
        """Calibrate the sources of a field, as ``auto-selfcal field`` does.

        Parameters
        ----------
        config : path
            Config of the field, Python or YAML.
        restart, quiet : bool
            As in `run`.
        **settings
            Keys of a field's config.
        """
        from steps.commands.field import run_field
        from steps.field.field_options import FIELD_OPTIONS

        given = _assignments(settings, FIELD_OPTIONS, STEPS)
        arguments = _arguments(given, quiet=quiet, restart=restart)
        return Result(run_field(Path(config), arguments, self._reports).workdir)

    def calibrate(
        self, config: str | Path, *, restart: bool = False, quiet: bool = False, **settings: Any
    ) -> Result:
        """Calibrate a session, as ``auto-selfcal calibrate`` does.

        Parameters
        ----------
        config : path
            Config of the session, Python or YAML.
        restart, quiet : bool
            As in `run`.
        **settings
            Keys of a session's config.
        """
        from steps.calibrate.calibrate_options import CALIBRATE_OPTIONS
        from steps.commands.calibrate import run_session

        given = _assignments(settings, CALIBRATE_OPTIONS, {})
        arguments = _arguments(given, quiet=quiet, restart=restart)
        return Result(run_session(Path(config), arguments, self._reports).workdir)

    def inspect(self, vis: str | Sequence[str]) -> list[Preview]:
        """Return what data hold: fields, windows, antennas, columns; nothing is written."""
        from libs.inputs.input_data import resolve_inputs
        from libs.inputs.preview import preview

        named = [vis] if isinstance(vis, str) else list(vis)
        return [preview(source) for source in resolve_inputs(named)]

    def open_result(self, workdir: str | Path) -> Result:
        """Return the result of a run that has ended, from its work directory.

        Raises
        ------
        ConfigError
            No run has ended there.
        """
        path = Path(workdir).expanduser().absolute()
        if not (path / "summary.json").exists():
            raise ConfigError(f"{path} holds no finished run", "name the work directory of a run")
        return Result(path)

    @cached_property
    def solutions(self) -> Solutions:
        """Functions for h5parms, as ``auto-selfcal solutions`` has them."""
        from steps.api_solutions import Solutions

        return Solutions()


def _arguments(given: Mapping[str, Any], *, quiet: bool, **steps: Any) -> RunArguments:
    """Return the arguments of a run as the command line would make them."""
    words = {"start": "", "until": "", "only": "", "restart": False, **steps}
    # a display that nobody sees is not quiet in the settings, which children would inherit
    stream = io.StringIO() if quiet else None
    return RunArguments(given, words, False, False, None, stream=stream)


def _assignments(
    given: Mapping[str, Any], options: Sequence[Option], steps: Mapping[str, Any]
) -> dict[str, Any]:
    """Return keyword arguments as assignments; parameters of steps get dotted names.

    Raises
    ------
    ConfigError
        A name is neither a key nor a step, or a step's parameters are no mapping.
    """
    known = {option.name: option for option in options}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in known:
            found[name] = _plain(value, known[name])
        elif name in steps:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} = {value!r} is no mapping", "write {'solint': '30s'}")
            found |= {f"{name}.{key}": one for key, one in value.items()}
        else:
            raise unknown_name("argument", name, [*known, *steps])
    return found


def _plain(value: Any, option: Option) -> Any:
    """Return a value as a config has it: paths as text, names of files absolute."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(one, option) for one in value]
    return absolute(value) if option.kind == "paths" and isinstance(value, str) else value
