"""The command ``servelab``: a file a command, assembled in `app`; heavy imports wait until a command needs them.

Options, printing and exit codes live here; what a command does is a function of another room.
"""
