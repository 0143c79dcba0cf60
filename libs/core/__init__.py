"""What every other room builds on: errors, processes, files, geometry; it imports no other room."""
