"""What happens: every rule about invocations, as pure functions of a view, an event and a time.

Lives here: events (the only way in), effects and writes (the only way out), the rules between.
Does not: await, log, measure, draw, ask the time, catch exceptions. Ids, seeds and times come in
with the event; `step.now_ms` is the only time.
"""
