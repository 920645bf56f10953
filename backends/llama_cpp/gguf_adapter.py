"""LoRA adapters in GGUF files, as `convert_lora_to_gguf.py` makes them: are they ones of a model.

A layer's two matrices are called as the layer is, with `.lora_a` and `.lora_b` after it. llama.cpp
refuses at its start what does not fit, and says so in the middle of its log.
"""

from __future__ import annotations

from pathlib import Path

from backends.llama_cpp.gguf_header import GgufError, GgufHeader, read_header

_CONVERT = "; llama.cpp's convert_lora_to_gguf.py makes one of it"


def check_adapter(file: Path, model: Path | None) -> None:
    """Refuse what is no LoRA adapter, or none of the model at `model`, where that is known.

    Raises `GgufError` or `OSError`.
    """
    try:
        adapter = read_header(file)
    except GgufError as error:
        hint = _CONVERT if file.suffix == ".safetensors" else ""
        raise GgufError(f"{file} is no GGUF file of an adapter: {error}{hint}") from None
    kind = adapter.metadata.get("general.type")
    if kind != "adapter":
        what = f"its general.type is {kind!r}" if kind else "it has no general.type"
        raise GgufError(f"{file} is no adapter: {what}, and should be 'adapter'")
    if (which := adapter.metadata.get("adapter.type")) != "lora":
        raise GgufError(f"{file} is no LoRA adapter: its adapter.type is {which!r}")
    if model is not None:
        try:
            base = read_header(model)
        except (GgufError, OSError):
            return  # its start says what is wrong with the model
        _check_base(file, adapter, base)


def _check_base(file: Path, adapter: GgufHeader, base: GgufHeader) -> None:
    if adapter.architecture != base.architecture:
        raise GgufError(
            f"{file} is for another model: one of the architecture {adapter.architecture!r}, "
            f"and this one has {base.architecture!r}"
        )
    for name, shape in adapter.tensors.items():
        layer, _, side = name.rpartition(".lora_")
        found = base.tensors.get(layer)
        if side not in ("a", "b") or found is None or len(found) < 2 or len(shape) < 2:
            continue  # parts of it may be in another file, and embeddings lie the other way round
        at = 0 if side == "a" else 1
        if shape[at] != found[at] and not layer.startswith("token_embd"):
            raise GgufError(
                f"{file} is for another model: its {name} has {shape[at]} "
                f"{'outputs' if at else 'inputs'}, the model's {layer} has {found[at]}"
            )
