"""The engine: an ordered list of steps that can be resumed exactly; every decision is recorded."""

__version__ = "0.1.0"
