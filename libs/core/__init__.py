"""Foundations of every other room: errors, processes, files, geometry. It imports no other room."""
