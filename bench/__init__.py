"""Benchmarks of the goals, against real processes on loopback. Never part of the product."""
