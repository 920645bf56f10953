from __future__ import annotations

import pytest

from gateway.config.problems import ConfigErrors, Problem, Report, did_you_mean, dotted


def test_a_problem_reads_file_line_path_message_hint() -> None:
    assert str(Problem("r.yaml", "a.b", "is wrong", "do right", 3, 1)) == (
        "r.yaml:3: a.b: is wrong; do right"
    )
    assert str(Problem("r.yaml", "", "no such file")) == "r.yaml: no such file"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("models", "a", "aliases", 0), "models.a.aliases[0]"),
        (("models", "gpt-4.1", "backend"), 'models."gpt-4.1".backend'),
        (("models", "a b"), 'models."a b"'),
        (("x" * 1000,), "x" * 128 + "…"),
    ],
)
def test_paths_are_dotted(path: tuple[str | int, ...], text: str) -> None:
    assert dotted(path) == text


def test_the_nearest_name_is_suggested_and_else_all() -> None:
    assert did_you_mean("qwn", ["qwen", "tale"]) == 'did you mean "qwen"?'
    assert did_you_mean("zzz", ["qwen", "tale"]) == "there is qwen, tale"
    assert did_you_mean("zzz", []) == ""


def test_a_report_raises_in_the_order_of_lines_and_tells_nothing_twice() -> None:
    report = Report("r.yaml")
    report.raise_any()
    report.place(("b",), 7, 1)
    report.add(("b", "inside"), "second")
    report.add(("b", "inside"), "second")
    report.add_at(("a",), 2, 5, "first")
    with pytest.raises(ConfigErrors) as caught:
        report.raise_any()
    assert [(it.line, it.path, it.message) for it in caught.value.problems] == [
        (2, "a", "first"),
        (7, "b.inside", "second"),
    ]
    assert report.within(("b",))
    assert not report.within(("c",))


def test_a_flood_of_problems_is_told_in_part_and_counted() -> None:
    report = Report("r.yaml")
    for line in range(1, 1001):
        report.add_at((f"key{line}",), line, 1, "is wrong", report.suggest("key", ["key"]))
    with pytest.raises(ConfigErrors) as caught:
        report.raise_any()
    told = str(caught.value).splitlines()
    assert len(told) == 201
    assert told[-1] == "r.yaml: and 800 more problems"
