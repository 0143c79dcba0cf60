"""Imagers behind one interface, and measurements on images."""
