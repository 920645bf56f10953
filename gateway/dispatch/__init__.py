"""One way from a request to its answer: the attempt loop and what it is made of."""
