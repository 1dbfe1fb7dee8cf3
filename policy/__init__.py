"""May this happen? Classifies commands (`policy.shell`) and decides by rules an operator edits (`policy.engine`).

Pure: reads no clock, no environment, no network and no file but its own data; time is an argument.
"""
