"""routing.yaml: what it can say, how it is read, and what is said about mistakes in it."""

from gateway.config.json_schema import schema
from gateway.config.loading import load
from gateway.config.problems import ConfigErrors, Problem
from gateway.config.structs import Config

__all__ = ["Config", "ConfigErrors", "Problem", "load", "schema"]
