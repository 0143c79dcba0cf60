"""Figures, tables and the HTML report, made from the records of a run."""
