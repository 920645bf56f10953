"""`isolation: process`: an in-process engine in a child, so that its crash is its own."""
