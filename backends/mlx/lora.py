"""LoRA adapters beside one loaded model, each row of a batch with its own. Engine thread only.

Rules of this file:

- The base's weights are never changed. A layer that some adapter adapts is put into a
  `_LoraLinear`, and taken out again when none does; without adapters the model is as it was.
- All adapters of a layer lie in one stack, from which every row has its own chosen (`gather_mm`,
  as experts are). So rows of different adapters, and rows of none, are one batch, and what one
  adapter holds reaches no other row.
- Stacks are replaced, never written: what MLX is still computing goes on with the old ones.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedLinear
from mlx.utils import tree_flatten, tree_unflatten

from backends.base import Adapter
from backends.mlx.adapter_files import AdapterFiles, BadAdapter, refuse_mismatch
from backends.mlx.model import adapter_type

_PREFIXES = ("", "language_model.", "model.")
"""What mlx-lm puts before the names of some models' layers."""
_NESTED = {
    "model.language_model.": ("language_model.model.", "language_model."),
    "model.text_model.": ("language_model.",),
}
"""What Hugging Face's models of text and images have in front, and what mlx-vlm's have there."""


class _Chosen(NamedTuple):
    """Which adapter each row has."""

    places: mx.array
    """In the stacks, [rows]; 0 for a row without, too."""
    adapted: mx.array | None
    """Whether a row has one, [rows]; None where all have."""


class _Pair(NamedTuple):
    """What one adapter does to one layer: A [inputs, rank], and B [rank, outputs], scaled."""

    down: mx.array
    up: mx.array


class _Current:
    """What the rows have of the batch that the model is called with; None for no adapters."""

    __slots__ = ("chosen",)

    def __init__(self) -> None:
        self.chosen: _Chosen | None = None


class _LoraLinear(Module):
    """A linear layer, and what adapters add to it.

    What is not the base's own has a name that MLX takes for no parameter.
    """

    def __init__(self, base: Module, current: _Current, size: tuple[int, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.base = base
        self._current = current
        self.size = size
        """Inputs and outputs."""
        self._type = _type_of(base)
        self._ranks: tuple[int, ...] = ()
        """Of each place; 0 where that adapter leaves this layer alone."""
        self._down = self._up = mx.zeros((0, 0, 0))

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.base(x)
        chosen = self._current.chosen
        if chosen is None:
            return y
        between = (1,) * (x.ndim - 3)
        places = chosen.places.reshape(-1, *between)
        low = mx.gather_mm(x.astype(self._type), self._down, rhs_indices=places)
        added = mx.gather_mm(low, self._up, rhs_indices=places)
        if chosen.adapted is not None:
            added = mx.where(chosen.adapted.reshape(-1, *between, 1, 1), added, 0)
        return y + added.astype(y.dtype)

    @property
    def nbytes(self) -> int:
        """What its adapters take."""
        return int(self._down.nbytes) + int(self._up.nbytes)

    @property
    def idle(self) -> bool:
        """Whether no adapter touches this layer."""
        return not any(self._ranks)

    def put(self, pair: _Pair | None) -> None:
        """Give the next place to an adapter; None for one that leaves this layer alone."""
        rank = 0 if pair is None else pair.down.shape[1]
        self._stack([*self._pairs(), pair], (*self._ranks, rank))

    def drop(self, place: int) -> None:
        """Take away the adapter at `place`; those behind it move up."""
        pairs, ranks = self._pairs(), list(self._ranks)
        del pairs[place], ranks[place]
        self._stack(pairs, tuple(ranks))

    def _pairs(self) -> list[_Pair | None]:
        return [
            _Pair(self._down[at][:, :rank], self._up[at][:rank]) if rank else None
            for at, rank in enumerate(self._ranks)
        ]

    def _stack(self, pairs: Sequence[_Pair | None], ranks: tuple[int, ...]) -> None:
        """Ranks are filled up with zeros, to the highest of them."""
        inputs, outputs = self.size
        highest = max(ranks, default=0)
        none = _Pair(mx.zeros((inputs, 0)), mx.zeros((0, outputs)))
        filled = [pair or none for pair in pairs]
        wide = [highest - pair.down.shape[1] for pair in filled]
        down = [mx.pad(p.down, [(0, 0), (0, n)]) for p, n in zip(filled, wide, strict=True)]
        up = [mx.pad(p.up, [(0, n), (0, 0)]) for p, n in zip(filled, wide, strict=True)]
        if down:
            new = mx.stack(down).astype(self._type), mx.stack(up).astype(self._type)
            mx.eval(new)  # one layer after the other: never two copies of all
            self._down, self._up = new
        self._ranks = ranks


class Lora:
    """The adapters loaded beside `model`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.number_size = _number_size(model)
        """Bytes that a number of an adapter takes."""
        self._current = _Current()
        self._adapters: list[Adapter] = []
        """In the order of their places in the stacks."""
        self._layers: dict[str, _LoraLinear] = {}
        self._loads: dict[Adapter, int] = {}
        self._count = 0

    @property
    def nbytes(self) -> int:
        """What all of them take."""
        return sum(layer.nbytes for layer in self._layers.values())

    def __contains__(self, adapter: Adapter) -> bool:
        return adapter in self._loads

    def load_number(self, adapter: Adapter) -> int:
        """Another one each time that an adapter is loaded: its files may be others by then."""
        return self._loads[adapter]

    def load(self, adapter: Adapter, files: AdapterFiles, content: bytes) -> None:
        """Add an adapter; `content` is what `files.weights` holds. Raises `BadAdapter`."""
        if adapter in self._loads:
            return
        modules = dict(self._model.named_modules())
        pairs: dict[str, _Pair] = {}
        fresh: dict[str, _LoraLinear] = {}
        for layer, pair in _read(files, content):
            name = _name_in(modules, layer)
            found = self._layers.get(name) or self._wrapped(modules.get(name))
            refuse_mismatch(layer, files.layers[layer], found.size[::-1] if found else None)
            assert found is not None, "what is not there is a mismatch"
            pairs[name] = pair
            if name not in self._layers:
                fresh[name] = found
        for layer_in_place in fresh.values():
            for _ in self._adapters:
                layer_in_place.put(None)
        self._layers |= fresh
        for name, layer_in_place in self._layers.items():
            layer_in_place.put(pairs.get(name))
        self._adapters.append(adapter)
        self._count += 1
        self._loads[adapter] = self._count
        self._replace(fresh)
        try:
            self._try(adapter)
        except Exception as error:  # whatever the model's own code does with its numbers
            self.unload(adapter)
            raise BadAdapter(f"this model cannot be adapted row by row: {error}") from error

    def unload(self, adapter: Adapter) -> None:
        """Drop an adapter, which no row in the batch has."""
        if self._loads.pop(adapter, None) is None:
            return
        place = self._adapters.index(adapter)
        self._adapters.remove(adapter)
        for layer in self._layers.values():
            layer.drop(place)
        idle = {name: layer for name, layer in self._layers.items() if layer.idle}
        self._replace({name: layer.base for name, layer in idle.items()})
        self._layers = {name: one for name, one in self._layers.items() if name not in idle}

    @contextmanager
    def rows(self, adapters: Sequence[Adapter | None]) -> Iterator[None]:
        """While this lasts, the model is called with rows that have `adapters`."""
        self._current.chosen = self._choose(adapters) if any(adapters) else None
        try:
            yield
        finally:
            self._current.chosen = None

    def _choose(self, adapters: Sequence[Adapter | None]) -> _Chosen:
        places = [0 if one is None else self._adapters.index(one) for one in adapters]
        has = None if all(adapters) else mx.array([one is not None for one in adapters])
        return _Chosen(mx.array(places, dtype=mx.uint32), has)

    def _wrapped(self, module: Module | None) -> _LoraLinear | None:
        """`module` as a layer that can be adapted; None where it is no linear layer."""
        if not isinstance(module, Linear | QuantizedLinear):
            return None
        outputs, inputs = module.weight.shape
        if isinstance(module, QuantizedLinear):
            inputs = inputs * 32 // module.bits
        return _LoraLinear(module, self._current, (inputs, outputs))

    def _replace(self, layers: Mapping[str, Module]) -> None:
        if layers:
            self._model.update_modules(tree_unflatten(list(layers.items())))

    def _try(self, adapter: Adapter) -> None:
        """Read a few tokens with and without it: some models mix rows before a layer."""
        with self.rows([adapter, None]):
            logits = self._model(mx.zeros((2, 3), dtype=mx.int32))
        if not mx.isfinite(logits).all().item():
            raise ValueError("what it computes is not a number")


def _read(files: AdapterFiles, content: bytes) -> Iterator[tuple[str, _Pair]]:
    load: Callable[..., Any] = mx.load  # which gives other things for other formats
    try:
        tensors: dict[str, mx.array] = load(io.BytesIO(content), format="safetensors")
        for layer, names in files.layers.items():
            down, up = tensors[names.down], tensors[names.up]
            if files.transposed:
                down, up = down.T, up.T
            if not (mx.isfinite(down).all() & mx.isfinite(up).all()).item():
                raise BadAdapter(f"{files.weights}: {layer} holds something that is no number")
            yield layer, _Pair(down, up.astype(mx.float32) * files.scale)
    except (RuntimeError, KeyError) as error:  # from MLX, or the file has been replaced meanwhile
        raise BadAdapter(f"{files.weights} cannot be read: {error}") from error


def _name_in(modules: Mapping[str, Module], layer: str) -> str:
    """What the model calls `layer`; the same where it has none like it."""
    names = [prefix + layer for prefix in _PREFIXES]
    for theirs, ours in _NESTED.items():
        if layer.startswith(theirs):
            names += [prefix + layer.removeprefix(theirs) for prefix in ours]
    return next((name for name in names if name in modules), layer)


def _number_size(model: Any) -> int:
    parameters: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    types = {one.dtype for one in parameters.values() if mx.issubdtype(one.dtype, mx.floating)}
    return max(int(adapter_type(one).size) for one in types)


def _type_of(linear: Module) -> mx.Dtype:
    """In which type a layer's adapters are kept."""
    numbers: mx.array = linear["scales" if isinstance(linear, QuantizedLinear) else "weight"]
    kept: mx.Dtype = adapter_type(numbers.dtype)
    return kept
