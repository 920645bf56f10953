"""What an operator may change while the gateway runs, below `/admin`."""
