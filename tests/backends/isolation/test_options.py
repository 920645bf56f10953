import sys

from backends.isolation.options import IsolatedOptions, read_options
from backends.launch.argv import command_line, environment
from backends.options import LlamaCppOptions, MlxOptions
from backends.units import Timeout


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


def test_it_is_told_nothing_that_is_for_vllm():
    child = IsolatedOptions.of(MlxOptions(model="m", adapters={"a": "/a"}))
    assert environment(child, {"PATH": "/bin"}) == {"PATH": "/bin"}
