import logging
import shutil
import sys
import weakref

import pytest

from backends.base import BackendError
from backends.llama_cpp import model as loading
from backends.options import LlamaCppOptions
from tests.support.engines import GGUF
from tests.support.gguf import write_gguf


def refused(model, **options):
    with pytest.raises(BackendError) as caught:
        loading.load(LlamaCppOptions(model=str(model), threads=1, **options))
    return caught.value.message


class TestWhatIsNoModel:
    def test_a_file_that_is_not_there(self, tmp_path):
        assert "there is no file" in refused(tmp_path / "nowhere.gguf")

    def test_a_directory_of_safetensors(self, tmp_path):
        (tmp_path / "model.safetensors").touch()
        assert "serve it with `use: mlx`" in refused(tmp_path)
        (tmp_path / "b.gguf").touch()
        assert "or name one of its GGUF files: b.gguf" in refused(tmp_path)

    def test_a_directory(self, tmp_path):
        assert "name a .gguf file" in refused(tmp_path)

    def test_another_kind_of_file(self, tmp_path):
        file = tmp_path / "model.gguf"
        file.write_bytes(b"\x80\x04 a pickle")
        assert "is no GGUF model: it begins with" in refused(file)

    def test_a_gguf_file_with_something_else(self, tmp_path):
        metadata = {"general.type": "adapter", "general.architecture": "llama"}
        file = write_gguf(tmp_path / "lora.gguf", metadata)
        assert "holds no model, but 'adapter'" in refused(file)


@pytest.mark.usefixtures("llama_cpp")
class TestWhatCannotBeLoaded:
    def test_a_file_without_its_weights(self, tmp_path):
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(GGUF.read_bytes()[:-1_000_000])
        said = refused(cut)
        assert "it was cut off: 1000000 bytes are missing" in said

    def test_an_architecture_that_llama_cpp_does_not_know(self, patched):
        said = refused(patched(b"llama", b"lamma"))
        assert "unknown model architecture: 'lamma'" in said, "what llama.cpp itself says is told"

    def test_a_template_that_is_none(self, patched):
        assert "is no template" in refused(patched(b"{%- macro text(", b"{%- makro text("))

    def test_no_memory_for_the_cache(self, patched):
        # The model says that it can read far more than any machine has memory for.
        key, context = b"llama.context_length\x04\0\0\0", (4096).to_bytes(4, "little")
        file = patched(key + context, key + (2**31 - 1).to_bytes(4, "little"))
        said = refused(file, context=2**31 - 1, max_batch=1)
        assert "loading this needs 4.0 TiB of memory" in said, "and embeddings as much again"

    def test_no_memory_beside_what_is_there_already(self, llama_cpp, monkeypatch):
        monkeypatch.setattr(loading, "machine_memory", lambda: 1 << 40)
        monkeypatch.setattr(loading, "process_memory", lambda: (1 << 40) - (1 << 20))
        said = refused(llama_cpp)
        assert "there are 1.0 MiB" in said
        assert "This process holds 1024.0 GiB already" in said

    def test_an_unknown_format_of_tool_calls(self, llama_cpp):
        said = refused(llama_cpp, tool_parser="hermse")
        assert "did you mean 'hermes'" in said
        assert "reasoning_parser: 'x'" in refused(llama_cpp, reasoning_parser="x")

    def test_a_package_that_is_not_there(self, llama_cpp, monkeypatch):
        monkeypatch.setitem(sys.modules, "llama_cpp", None)
        assert "pip install llama-cpp-python" in refused(llama_cpp)


class TestContext:
    def test_more_than_the_model_was_trained_for_is_capped_with_a_warning(self, llama_cpp, caplog):
        runtime = loading.load(LlamaCppOptions(model=str(llama_cpp), context=16384, threads=1))
        assert runtime.context == 4096
        assert "more than the 4096 tokens" in caplog.text
        runtime.close()


class TestGpu:
    def test_all_layers_where_there_is_one(self):
        assert loading.gpu_layers(None, offloads=True) == loading.ALL_LAYERS
        assert loading.gpu_layers(7, offloads=True) == 7
        assert loading.gpu_layers(0, offloads=True) == 0

    @pytest.mark.parametrize(
        ("system", "machine", "wanted", "warned"),
        [
            ("darwin", "arm64", None, True),
            ("darwin", "arm64", 0, False),
            ("linux", "x86_64", None, False),
            ("linux", "x86_64", 20, True),
            ("linux", "x86_64", -1, True),
        ],
    )
    def test_who_wanted_one_is_told_that_the_cpu_computes(
        self, monkeypatch, caplog, system, machine, wanted, warned
    ):
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr("platform.machine", lambda: machine)
        with caplog.at_level(logging.WARNING):
            assert loading.gpu_layers(wanted, offloads=False) == 0
        assert ("computed on the CPU" in caplog.text) == warned


def test_cores_are_counted_once():
    assert 1 <= loading.physical_cores() <= (len_of_cpus() or 1)


def len_of_cpus():
    import os

    return os.cpu_count()


def test_a_model_is_freed_when_nobody_holds_it_any_more(llama_cpp, tmp_path):
    copy = shutil.copy(llama_cpp, tmp_path / "m.gguf")
    runtime = loading.load(LlamaCppOptions(model=str(copy), threads=1))
    prompts, model = runtime.prompts, weakref.ref(runtime._model)
    runtime.close()
    runtime.close()
    del runtime
    assert model() is not None
    assert prompts.text("still there"), "prompts may be made while the engine is stopped"
    del prompts
    assert model() is None
