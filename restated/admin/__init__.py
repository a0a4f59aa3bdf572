"""Operators: the admin REST API, SQL queries, the live tail.

Lives here: HTTP semantics and status codes of the admin API.
Does not: change rows other than by an event.
"""
