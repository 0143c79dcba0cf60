"""Simulated observations with known sky and gains."""
