import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backends.base import BackendError, Cause, Stage
from backends.mlx import model
from tests.backends.mlx.conftest import edit_config


def refused(directory, **options):
    with pytest.raises(BackendError) as caught:
        model.load(str(directory), max_batch=2, **options)
    assert (caught.value.stage, caught.value.cause) == (Stage.CONNECT, Cause.ENGINE)
    return caught.value.message


def test_a_directory_that_is_not_there(tmp_path):
    assert "no directory" in refused(tmp_path / "nowhere")


def test_an_empty_directory(tmp_path):
    assert "has no config.json" in refused(tmp_path)


def test_a_directory_without_weights(copy):
    (copy / "model.safetensors").unlink()
    assert "has no weights" in refused(copy)


def test_a_gguf_file_and_a_directory_of_them(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    for named in (tmp_path, tmp_path / "model.gguf"):
        assert "use: llama_server" in refused(named)


def test_a_file_in_place_of_a_directory(copy):
    assert "name the directory" in refused(copy / "config.json")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"{}", b"\x08\0\0\0\0\0\0\0{}      "])
def test_weights_that_are_no_safetensors(copy, content):
    (copy / "model.safetensors").write_bytes(content)
    assert "cannot be loaded" in refused(copy)


def test_weights_that_were_cut_off(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refused(copy)


@pytest.mark.parametrize(
    "config", ["{", "[]", "{}", '{"model_type": "no-such-model"}', '{"model_type": "llama"}']
)
def test_a_config_that_is_none(copy, config):
    (copy / "config.json").write_text(config)
    assert str(copy) in refused(copy)


def test_a_config_that_does_not_fit_the_weights(copy):
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"hidden_size": 128', '"hidden_size": 64'))
    assert "cannot be loaded" in refused(copy)


def test_a_tokenizer_that_is_missing(copy):
    (copy / "tokenizer.json").unlink()
    assert "has no tokenizer (tokenizer.json, " in refused(copy)


def test_a_tokenizer_that_is_broken(copy):
    (copy / "tokenizer.json").write_text("{")
    assert "cannot be loaded" in refused(copy)


def test_what_a_library_complains_of_at_length_is_cut(copy):
    edit_config(copy, num_hidden_layers=40)
    message = refused(copy)
    assert "Missing" in message
    assert len(message) < 500
    assert "\n" not in message


def test_an_architecture_that_nobody_knows(copy):
    edit_config(copy, model_type="no-such-model")
    assert "mlx-lm does not know its model_type, 'no-such-model'" in refused(copy)


def test_weights_that_were_cut_off_say_how_much_is_missing(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:-1000])
    assert "was cut off: 1000 bytes are missing" in refused(copy)


def test_more_memory_than_there_is(copy):
    message = refused(copy, kv_cache=1 << 50)
    assert "loading this needs" in message
    assert "Lower `kv_cache` or `prompt_cache`" in message, "the key that was given"


def test_less_memory_than_one_sequence_takes(copy):
    assert "too little for one sequence" in refused(copy, kv_cache=1000)


def test_the_footprint_is_told_before_anything_is_loaded(model_dir):
    told = model.footprint(str(model_dir), max_batch=2, context=100)
    assert told is not None
    assert (told.context, told.concurrency) == (100, 2)
    assert model.footprint("nobody/no-such-model", max_batch=2) is None
    assert model.footprint(str(model_dir / "nowhere"), max_batch=2) is None


def test_the_footprint_of_broken_files_is_an_error(copy):
    (copy / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no safetensors"):
        model.footprint(str(copy), max_batch=2)


def test_loading_says_what_and_how_much(model_dir, caplog):
    caplog.set_level("INFO")
    model.load(str(model_dir), max_batch=1).close()
    assert f"{model_dir}: loading {model_dir}, 5.0 MiB (" in caplog.text


def test_a_name_that_is_neither_a_directory_nor_a_hub_id():
    assert "no hub id" in refused("just-a-name")


def test_a_hub_id_without_a_network_says_what_to_do():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(BackendError) as caught:
            model.locate("nobody/no-such-model", endpoint=endpoint)
    assert "no directory nobody/no-such-model" in caught.value.message
    assert "hf download nobody/no-such-model" in caught.value.message


def test_what_the_hub_has_is_told_before_it_is_fetched(caplog):
    """No more than its first answer comes from this hub."""
    sizes = {"config.json": 1 << 10, "model.safetensors": 5 << 20, "pytorch_model.bin": 1 << 30}
    info = {
        "id": "nobody/no-such-model",
        "siblings": [{"rfilename": name, "size": size} for name, size in sizes.items()],
    }

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.startswith("/api/models/nobody/no-such-model?")
            body = json.dumps(info if known else {}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            """Nothing."""

    caplog.set_level("INFO")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        serving = threading.Thread(target=hub.serve_forever)
        serving.start()
        try:
            with pytest.raises(BackendError, match="cannot be fetched"):
                model.locate("nobody/no-such-model", endpoint=f"http://127.0.0.1:{hub.server_port}")
        finally:
            hub.shutdown()
            serving.join()
    told = "nobody/no-such-model: fetching nobody/no-such-model from the hub, 5.0 MiB"
    assert told in caplog.text


@pytest.mark.slow
def test_naming_the_engine_does_not_import_it():
    script = (
        "import sys; from backends.options import MlxOptions; MlxOptions(model='x').open('x');"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
