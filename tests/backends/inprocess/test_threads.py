import threading
import weakref

from backends.inprocess.threads import OwnerThreads


def name():
    return threading.current_thread().name


def run(threads, function, called="MLX-engine"):
    assert threads.start(called, function).wait(10)


def test_a_thread_is_used_again_once_it_is_free():
    threads, seen = OwnerThreads(), []
    for _ in range(5):
        run(threads, lambda: seen.append(threading.get_ident()))
    assert len(set(seen)) == 1


def test_those_that_run_at_once_have_a_thread_each():
    threads, go, seen = OwnerThreads(), threading.Event(), []

    def hold():
        seen.append((threading.get_ident(), name()))
        assert go.wait(10)

    over = [threads.start(f"engine-{at}", hold) for at in range(3)]
    go.set()
    assert all(event.wait(10) for event in over)
    assert len({ident for ident, _ in seen}) == 3
    assert {called for _, called in seen} == {"engine-0", "engine-1", "engine-2"}


def test_a_failure_is_told_and_the_thread_goes_on(caplog):
    threads, seen = OwnerThreads(), []

    def broken():
        raise SystemExit("boom")

    run(threads, broken)
    run(threads, lambda: seen.append(name()))
    assert seen == ["MLX-engine"]
    assert "boom" in caplog.text


def test_what_a_function_holds_is_let_go():
    class Model:
        pass

    gone = threading.Event()

    def start(threads):
        model = Model()
        weakref.finalize(model, gone.set)
        run(threads, lambda: model)

    start(OwnerThreads())
    assert gone.wait(10)
