"""Where it is kept: rows on SQLite, durable when `commit` returns.

Lives here: the Store protocol, the schema derived from the rows, SQLite, read-only queries.
Does not: decide anything about invocations.
"""
