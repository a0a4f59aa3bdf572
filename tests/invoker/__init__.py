"""Tests of `invoker`."""
