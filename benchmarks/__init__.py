"""How good and how fast the program is; run by make bench."""
