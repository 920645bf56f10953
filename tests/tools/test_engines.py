"""Where built engines live, when they count as built, and how a build resumes and reports."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from tools.engines import ENGINES
from tools.engines.engine import Engine
from tools.engines.home import Home, engines_root, recipe_digest
from tools.engines.steps import StepError, Steps, clock, progress_in


class ToyEngine(Engine):
    """Builds in two steps; the second one fails while `broken`."""

    name: ClassVar[str] = "toy"
    version: ClassVar[str] = "1.0"

    def __init__(self) -> None:
        self.option = "a"
        self.broken = False
        self.compiled = 0

    def recipe(self) -> object:
        return {"option": self.option}

    def binary(self, home: Home) -> Path:
        return home.path / "toy"

    def install(self, home: Home, steps: Steps) -> None:
        home.work.mkdir(exist_ok=True)
        compiled = home.work / "compiled"
        if not compiled.exists():
            steps.run("compiling", [sys.executable, "-c", "print('[1/1] toy')"])
            compiled.touch()
            self.compiled += 1
        ending = "print('no space'); raise SystemExit(3)" if self.broken else "pass"
        steps.run("linking", [sys.executable, "-c", ending], hint="make room")
        self.binary(home).touch()


def quiet() -> Steps:
    return Steps("toy", io.StringIO())


class TestWhereEnginesLive:
    def test_follows_xdg_cache_home(self) -> None:
        root = engines_root({"XDG_CACHE_HOME": "/somewhere"})
        assert root == Path("/somewhere/llm-gateway/engines")

    @pytest.mark.parametrize("environ", [{}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "here"}])
    def test_is_the_home_cache_otherwise(self, environ: dict[str, str]) -> None:
        assert engines_root(environ) == Path.home() / ".cache" / "llm-gateway" / "engines"

    @pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
    def test_names_engine_version_and_platform(self, engine: Engine) -> None:
        assert engine.key.startswith(f"{engine.name}-{engine.version}-")
        assert engine.platform() in engine.key

    def test_a_changed_recipe_is_another_home(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        toy.ensure(quiet(), tmp_path)
        toy.option = "b"
        assert toy.find(tmp_path) is None

    def test_the_order_of_a_recipe_does_not_matter(self) -> None:
        assert recipe_digest({"a": 1, "b": 2}) == recipe_digest({"b": 2, "a": 1})


class TestWhatCountsAsBuilt:
    def test_a_complete_build_is_found_and_not_built_again(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        built = toy.ensure(quiet(), tmp_path)
        assert toy.find(tmp_path) == built
        assert toy.ensure(quiet(), tmp_path) == built
        assert toy.compiled == 1

    def test_the_stamp_tells_what_was_built(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        toy.ensure(quiet(), tmp_path)
        facts = toy.home(tmp_path).facts()
        assert facts["engine"] == "toy"
        assert facts["version"] == "1.0"

    def test_a_binary_without_a_stamp_does_not_count(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        toy.ensure(quiet(), tmp_path)
        toy.home(tmp_path).revoke()
        assert toy.find(tmp_path) is None

    def test_a_stamp_without_its_binary_does_not_count(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        toy.ensure(quiet(), tmp_path).unlink()
        assert toy.find(tmp_path) is None
        assert toy.ensure(quiet(), tmp_path).exists()

    def test_an_unreadable_stamp_tells_nothing(self, tmp_path: Path) -> None:
        home = Home(tmp_path)
        home.stamp.write_text("{")
        assert home.facts() == {}


class TestResuming:
    def test_goes_on_where_a_failed_build_stopped(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        toy.broken = True
        with pytest.raises(StepError):
            toy.ensure(quiet(), tmp_path)
        assert toy.find(tmp_path) is None
        toy.broken = False
        toy.ensure(quiet(), tmp_path)
        assert toy.compiled == 1

    def test_leaves_no_work_behind(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        toy.ensure(quiet(), tmp_path)
        assert not toy.home(tmp_path).work.exists()

    def test_a_second_build_waits_and_then_finds_it(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        said = io.StringIO()
        home = toy.home(tmp_path)
        waiting = threading.Event()
        second = threading.Thread(target=toy.ensure, args=(Steps("toy", said), tmp_path))
        with home.locked(waiting.set):
            second.start()
            second.join(0.2)
            assert second.is_alive()
            toy.binary(home).touch()
            home.mark_complete({})
        second.join(10)
        assert toy.compiled == 0
        assert "waiting for another build" in said.getvalue()
        assert not waiting.is_set()


class TestSteps:
    def test_a_failure_says_what_how_and_where(self, tmp_path: Path) -> None:
        toy = ToyEngine()
        toy.broken = True
        with pytest.raises(StepError, match="linking: exit status 3") as failure:
            toy.ensure(quiet(), tmp_path)
        assert failure.value.tail == ("no space",)
        assert failure.value.hint == "make room"
        assert "no space" in failure.value.log.read_text()

    def test_a_command_that_is_not_there_is_a_failure(self) -> None:
        with pytest.raises(StepError, match="No such file"):
            quiet().run("compiling", ["/no/such/compiler"])

    def test_plain_output_has_a_line_when_a_step_starts_and_ends(self) -> None:
        said = io.StringIO()
        Steps("toy", said).run("compiling", [sys.executable, "-c", "print('[1/2] a.o')"])
        assert said.getvalue().splitlines() == [
            "toy: compiling",
            "toy: compiling: done in 0:00",
        ]

    @pytest.mark.parametrize(
        ("line", "progress"),
        [
            ("[12/206] Building CXX object a.o", "[12/206]"),
            ("Collecting torch==2.13.0", "pip: collecting torch==2.13.0"),
            ("Processing /some/where/idna-3.1.whl (from x)", "pip: processing idna-3.1.whl"),
            ("Installing collected packages: a, b", "pip: installing collected"),
            ("-- Found Threads: TRUE", None),
        ],
    )
    def test_reads_progress_out_of_a_line(self, line: str, progress: str | None) -> None:
        assert progress_in(line) == progress

    def test_shows_time_in_minutes(self) -> None:
        assert [clock(7.9), clock(750)] == ["0:07", "12:30"]


class TestLlamaCpp:
    def test_both_builds_are_of_one_source(self) -> None:
        server, binding = ENGINES["llama-server"], ENGINES["llama-cpp-python"]
        assert server.version == binding.version
        assert server.recipe()["sdist"] == binding.recipe()["sdist"]  # type: ignore[index]

    def test_the_wheel_has_the_name_that_pip_wants(self, tmp_path: Path) -> None:
        engine = ENGINES["llama-cpp-python"]
        home = engine.home(tmp_path)
        home.path.mkdir()
        home.mark_complete({})
        assert engine.find(tmp_path) is None
        wheel = home.path / "llama_cpp_python-0.3.36-py3-none-macosx_14_0_arm64.whl"
        wheel.touch()
        assert engine.find(tmp_path) == wheel
