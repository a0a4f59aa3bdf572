"""Tests, mirroring the tree of `restated/`."""
