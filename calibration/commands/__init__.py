"""What calibration adds to the command line, a file a command, found through the entry point ``servelab.commands``.

Options, messages and exit codes live here; what a command does is a function of another room.
"""
