"""The protocols the collector understands, one module each.

The rule of this folder: bytes and the time in, a `Batch` out. Pure functions: no Flask, no database, no I/O.
"""
