"""Names and formats of signals: metrics, traces.

Lives here: what is measured and how it is told.
Does not: reach into rooms; rooms call it.
"""
