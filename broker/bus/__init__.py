"""Between the control process and its data workers: what they say to one another, and both ends of it."""
