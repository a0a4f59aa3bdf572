"""The one writer: order, batches, the moment of commit, release.

Lives here: writer, dispatch of effects, waiters, catalog, timers.
Does not: interpret effects (they are only routed), know HTTP.
"""
