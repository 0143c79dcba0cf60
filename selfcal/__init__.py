"""The engine: an ordered list of steps, resumed exactly, with every decision on record."""

__version__ = "0.1.0"
