"""The approval prompt: a person sees exactly what a signature binds, and only deliberate keys sign it."""
