from __future__ import annotations

import argparse
import json

import pytest

from gateway.cli import schema


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="gateway")
    schema.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["schema"])
    assert args.run(args) == 0
    printed = json.loads(capsys.readouterr().out)
    assert "models" in printed["$defs"]["Config"]["properties"]
