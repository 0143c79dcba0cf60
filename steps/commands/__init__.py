"""The commands, each a module with `command(argv, ...)`; what they share is `command_line`."""
