import sys

import pytest

from backends.isolation.options import IsolatedOptions, read_options
from backends.launch.argv import command_line, environment
from backends.options import LlamaCppOptions, MlxOptions
from backends.units import Timeout
from tests.support.engines import MODEL_DIR


def test_the_child_is_this_python_and_opens_the_engine_in_itself():
    child = IsolatedOptions.of(LlamaCppOptions(model="/m.gguf", isolation="process"))
    python, *module, socket, entry = command_line(child, "/run/0.sock")
    assert (python, module) == (sys.executable, ["-m", "backends.isolation.child"])
    assert socket == "/run/0.sock"
    assert read_options(entry) == LlamaCppOptions(model="/m.gguf")


def test_it_is_watched_as_the_engine_wants_it():
    engine = MlxOptions(model="m", start_timeout=Timeout(900), stall_timeout=Timeout(7))
    launch = IsolatedOptions.of(engine).launch
    assert launch is not None
    assert (launch.start_timeout, launch.stall_timeout) == (900, 7)


def test_what_is_planned_is_what_it_takes_of_the_limit():
    engine = MlxOptions(model=str(MODEL_DIR), isolation="process")
    footprint, launch = engine.footprint(), IsolatedOptions.of(engine).launch
    assert footprint is not None
    assert launch is not None
    assert launch.memory == footprint.total > footprint.weights


@pytest.mark.parametrize("model", ["/nowhere/m.gguf", __file__])
def test_what_cannot_be_planned_is_measured(model):
    launch = IsolatedOptions.of(LlamaCppOptions(model=model)).launch
    assert launch is not None
    assert launch.memory is None


def test_it_is_told_nothing_that_is_for_vllm():
    child = IsolatedOptions.of(MlxOptions(model="m", adapters={"a": "/a"}))
    assert environment(child, {"PATH": "/bin"}) == {"PATH": "/bin"}
