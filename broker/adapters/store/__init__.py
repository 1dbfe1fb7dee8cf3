"""The SQL store. Holds no rule: what may change is the core's to say."""
