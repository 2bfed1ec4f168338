"""Benchmarks: ratios against a named peer in the same run, on answers that are equal."""
