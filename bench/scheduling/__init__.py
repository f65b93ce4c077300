"""Measures how a model service divides its device among requests: `make bench-scheduling`."""
