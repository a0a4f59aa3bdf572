"""The service protocol's wire form, sans-I/O: bytes <-> messages.

Lives here: the frame decoder with its limits, the schema, the table of message types.
Does not: what a message means for an invocation (core/commands.py), sockets (invoker/).
"""
