"""`restated`: a durable-invocation server for one machine.

Rooms, from the outside in: cli, daemon; admin, ingress; invoker; engine; store; core; protocol;
client, telemetry; model, seams. Imports point down only (`style.md` is enforced by import-linter).
"""
