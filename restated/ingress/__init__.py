"""Requests coming in on the ingress port: call, send, attach, output, awakeables, health.

Lives here: the listener, the HTTP/1.1 loop, URL and header grammar, answers.
Does not: change rows other than by an event; know deployments.
"""
