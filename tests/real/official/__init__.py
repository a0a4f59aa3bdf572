"""The official command line interface against a daemon, as users run it."""
