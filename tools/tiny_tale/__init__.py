"""Tiny Tale: the 1.3 M parameter model the project ships, and everything that makes it.

The way of the weights: `grammar` invents conversations, `chat` renders them, `tokenizer` cuts
them, `model` learns them in `train`, `export` writes the files, `check` asks the questions.
"""
