"""The commands beside the main one."""
