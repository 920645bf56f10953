from __future__ import annotations

import pytest

from gateway.config.environment import expand, references, refers

ENV = {"HOST": "10.0.0.1", "EMPTY": "", "TRICK": "${HOST}"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain $HOME", "plain $HOME"),
        ("${HOST}", "10.0.0.1"),
        ("http://${HOST}:${PORT:-8000}/v1", "http://10.0.0.1:8000/v1"),
        ("${HOST:-other}", "10.0.0.1"),
        ("${EMPTY}", ""),
        ("${EMPTY:-filled}", "filled"),
        ("${NONE:-}", ""),
        ("$${HOST}", "${HOST}"),
        ("${TRICK}", "${HOST}"),  # values are not read again
    ],
)
def test_references_become_values(text: str, value: str) -> None:
    assert expand(text, ENV) == value


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("${KEY}", "${KEY}"),
        ("Bearer-${KEY:-sk-secret}-${TAIL}-${KEY}", "${KEY}, ${TAIL}"),
        ("sk-secret", ""),
        ("$${KEY}", ""),
    ],
)
def test_only_the_names_are_told_of_what_it_refers_to(text: str, names: str) -> None:
    assert references(text) == names


def test_every_missing_variable_is_named() -> None:
    with pytest.raises(ValueError, match=r"ONE is not set.*TWO is not set"):
        expand("${ONE}${TWO}", ENV)


def test_a_misspelt_variable_is_recognised() -> None:
    with pytest.raises(ValueError, match=r"did you mean \$\{HOST\}"):
        expand("${HOTS}", ENV)


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A B}", "${A-b}", "${HOST"])
def test_a_malformed_reference_is_refused(text: str) -> None:
    assert refers(text)
    with pytest.raises(ValueError, match=r"expected \$\{NAME\}"):
        expand(text, ENV)
