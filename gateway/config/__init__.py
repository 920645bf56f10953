"""routing.yaml: what it can say, how it is read, and what is said about mistakes in it."""
