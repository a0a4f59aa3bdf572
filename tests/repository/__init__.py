"""Tests of `repository`."""
