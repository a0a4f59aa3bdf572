"""Tests of `real`."""
