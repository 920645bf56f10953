"""Constraints for tests."""

from backends.inprocess.constraint import Constraint, Value


def one_value(schema: str, param: str) -> Constraint:
    """An answer that is a JSON value and nothing else."""
    return Constraint(answer=Value(schema=schema, param=param))
