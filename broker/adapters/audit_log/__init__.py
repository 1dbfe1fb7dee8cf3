"""The audit log behind its port: sequencing, signed heads, the guard before each signature, proofs, reading, export.

Never decides what is an event, and never changes an entry: the bytes that the business transaction wrote are the leaf.
"""
