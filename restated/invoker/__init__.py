"""Talking to deployments: connections, attempts, permits.

Lives here: the protocol exchange of one attempt, the transports under it, discovery requests.
Does not: decide on retries (core/attempts.py), write to the store.
"""
