"""Errors a user can act on: each carries its cause and what to do about it."""

from __future__ import annotations


class SelfcalError(Exception):
    """A failure with a known cause.

    Parameters
    ----------
    cause : str
        The failure in one line that names the file, column or value.
    remedy : str
        The user's next step, in one line.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}: {self.remedy}" if self.remedy else self.cause


class ConfigError(SelfcalError):
    """The config, a template or the command line is wrong (exit code 2)."""


class InputError(SelfcalError):
    """The data cannot be used as they are (exit code 1)."""


class DiskError(SelfcalError):
    """A disk takes no more, or does not give what it holds (exit code 1)."""


class ToolError(SelfcalError):
    """An external tool is missing, failed, hung or made no output (exit code 1)."""


class ImageError(ToolError):
    """An imager ran, but its images are of no use: blank, not finite or worse than before CLEAN."""


class SolveError(SelfcalError):
    """A calibration solve gave no usable solution.

    The pipeline rejects a round in which it occurs and goes on from the best state.
    """
