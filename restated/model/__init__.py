"""What is stored and sent: pure values and identities.

Lives here: ids, rows and records, the error catalogue.
Does not: behaviour beyond derived properties; anything that reads a clock, a socket or a file.
"""
