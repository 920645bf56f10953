import ctypes
import logging
import threading

import pytest

from backends.llama_cpp import library
from backends.llama_cpp.library import lines_kept

DEBUG, INFO, WARN, ERROR, CONTINUED = 1, 2, 3, 4, 5


@pytest.fixture
def say(caplog):
    caplog.set_level(logging.DEBUG, logger="backends.llama_cpp")
    lines = library._Lines()
    say.lines = lines
    return lines.take


def logged(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_lines_go_to_logging_and_little_of_it_is_loud(say, caplog):
    say(INFO, b"loading\n")
    say(DEBUG, b"detail\n")
    say(WARN, b"careful\n")
    say(ERROR, b"broken\n")
    assert logged(caplog) == [
        ("DEBUG", "loading"), ("DEBUG", "detail"), ("WARNING", "careful"), ("ERROR", "broken"),
    ]  # fmt: skip


def test_a_line_may_come_in_pieces(say, caplog):
    say(WARN, b"one ")
    say(CONTINUED, b"line")
    say(CONTINUED, b", and\nanother\n")
    assert logged(caplog) == [("WARNING", "one line, and"), ("WARNING", "another")]


def test_a_line_without_an_end_is_ended_by_the_next(say, caplog):
    say(INFO, b"....")
    say(ERROR, b"broken\n")
    assert logged(caplog) == [("DEBUG", "...."), ("ERROR", "broken")]


def test_what_is_no_text_does_not_matter(say, caplog):
    say(ERROR, b"\xff\n")
    assert logged(caplog) == [("ERROR", "\ufffd")]


def test_what_is_said_while_a_model_loads_is_kept_for_its_thread(caplog):
    lines = library._LINES
    with lines_kept() as kept:
        lines.take(INFO, b"no matter\n")
        lines.take(ERROR, b"broken\n")
        other = threading.Thread(target=lines.take, args=(ERROR, b"elsewhere\n"))
        other.start()
        other.join()
        for number in range(100):
            lines.take(WARN, b"%d\n" % number)
    lines.take(ERROR, b"later\n")
    assert len(kept) == library._KEPT
    assert kept[-1] == "99"
    assert "elsewhere" not in kept


def test_llama_cpp_says_nothing_on_stderr(llama_cpp, capfd):
    native = library.import_llama_cpp()
    params = native.llama_model_default_params()
    assert not native.llama_model_load_from_file(b"/nowhere.gguf", params)
    assert capfd.readouterr().err == ""
    assert isinstance(ctypes.cast(library._LOG_CALLBACK, ctypes.c_void_p).value, int)
