"""May this happen? Pure: takes values, returns a decision; reads no clock, store or socket."""
