"""Fuzz the classifier against real shells.

The property: whatever the script, `classify` is pure and bounded, lets no exception escape, and never answers less than
what bash then does. A script that it calls a read changes no file and starts no program that it has not seen.
"""
