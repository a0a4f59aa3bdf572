"""`restated`: a durable-invocation server for one machine.

Rooms, from the outside in: cli, daemon; admin, ingress; invoker; engine; store; core; protocol;
client, telemetry; model, seams. Imports point down only (`style.md` is enforced by import-linter).
"""

__version__ = "0.1.0"  # read by the build, too: the package's metadata costs 50 ms to open
