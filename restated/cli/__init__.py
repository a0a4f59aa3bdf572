"""The `restated` command: `serve` is the daemon, every other verb talks to a running one.

Lives here: command line, tables, exit codes.
Does not: reach into a data directory of a running daemon.
"""
