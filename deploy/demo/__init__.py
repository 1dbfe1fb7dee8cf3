"""`make demo`: the main job end to end on this machine, with real processes and the product's own programs."""
