"""Figures, tables and the HTML report, made from what a run recorded."""
