"""Imagers behind one interface, and what is measured on images."""
