"""Choices made by how well solutions predict visibilities that were held out of the solve."""
