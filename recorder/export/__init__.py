"""What a recording can be turned into. An export is plaintext: whoever makes one audits it."""
