"""Which replica a request goes to. Pure: no I/O; clock and randomness are passed in."""
