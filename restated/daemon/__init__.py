"""The process: settings, construction, start-up and shutdown, every call into the OS.

Lives here: configuration, the composition root, the real Clock, Rng, Net and Fs.
Does not: rules of any kind.
"""
