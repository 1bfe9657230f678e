"""The part of a simulated layer that reads partial sums from sub-arrays: its tables, its mode, its noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor, nn

from cosim.errors import InputError
from cosim.network.layout import ARRAYS_MAX
from cosim.network.mapping import ORDERS, Order, map_window
from cosim.network.mapping import Mapping as RowMapping
from cosim.network.window import Window
from cosim.surrogate.model import Surrogate
from cosim.training.frozen_offsets import Quantiles, codes_of, quantiles_of, thresholds_v, voltages_v
from cosim.training.lookups import StraightThrough, alias_centroids
from cosim.training.packed_reads import (
    KernelTables,
    image_keys,
    kernel_tables,
    lay_out_planes,
    packed_histogram,
    packed_sums,
)
from cosim.training.planes import Taken, added_up, patches, weight_planes
from cosim.training.read_noise import ReadNoise, offset_generator
from cosim.training.read_state import TABLES, check_frozen, check_state, empty_state

ReadMode = Literal["ideal", "nominal", "iid", "frozen_offsets"]
READ_MODES: tuple[ReadMode, ...] = get_args(ReadMode)

_CHUNK = 2**23  # Inputs of positions that are laid out at once, at most: 32 MiB.
_EXACT = 2**24  # float32 holds every integer up to it.
with_kernels = True
"""Whether reads on a CPU are the packed network's kernels'; else torch's own operations read there too."""

_NOISY = ("iid", "frozen_offsets")


class Reader(nn.Module):
    """Reads the partial sums of one layer's columns; a child of the layer, so that its state is part of the layer's.

    The state holds the tables that calibration made, the frozen offsets and the mode. The surrogate and the state of
    the read noise's generator are no part of it.

    Args:
        surrogate: Its number of rows is the sub-arrays'.
        columns: Of the layer; each takes as many columns of the arrays as its weights have bits.
        window: A window of the layer: its channels and its kernel count, the map's size does not.
        taken: What the layer takes.
        weight_bits: Of a weight.
        order: How inputs lie in rows, see `cosim.network.mapping.map_window`.
        layer: The layer's number among those that read, for its random numbers.
        mode: How partial sums are read.

    Raises:
        InputError: There is no such mode or order, or the layer takes too many sub-arrays.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        columns: int,
        window: Window,
        *,
        taken: Taken,
        weight_bits: int,
        order: Order,
        layer: int,
        mode: str,
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise InputError(f"the row order must be one of {', '.join(ORDERS)}, got {order!r}")
        self.surrogate = surrogate
        self.rows = surrogate.rows
        self.order: Order = order
        self.columns = columns * weight_bits
        self.taken, self.weight_bits = taken, weight_bits
        self.edges = _edges(map_window(window, self.rows, order))
        largest = taken.top << (weight_bits - 1)
        if self.arrays * largest > ARRAYS_MAX:
            factors = "" if largest == 1 else f" with weights and activations up to {largest}"
            raise InputError(f"{self.arrays} sub-arrays{factors} are more than {ARRAYS_MAX // largest}")
        self.noise = ReadNoise(0, layer)
        self.histogram: Int64[Tensor, " entry"] | None = None
        self.most = 0  # Rows of a sub-array that can be on, as far as positions have been seen.
        for name, tensor in empty_state().items():
            self.register_buffer(name, tensor)
        self.register_buffer("frozen", torch.zeros(0, 0, 0))
        self.register_buffer("mode_number", torch.tensor(0, dtype=torch.uint8))
        self._quantiles: Quantiles | None = None
        self._tables: KernelTables | None = None
        self.set_mode(mode)

    @property
    def arrays(self) -> int:
        """The number of sub-arrays below each other."""
        return len(self.edges) - 1

    @property
    def calibrated(self) -> bool:
        """Whether there are levels."""
        return self.get_buffer("start").numel() > 0

    @property
    def mode(self) -> ReadMode:
        """How partial sums are read."""
        return READ_MODES[int(self.get_buffer("mode_number"))]

    def set_mode(self, mode: str) -> None:
        """Choose how partial sums are read.

        Raises:
            InputError: There is no such mode, or frozen offsets are asked for and none have been drawn.
        """
        self.check_mode(mode)
        self.get_buffer("mode_number").fill_(READ_MODES.index(mode))

    def check_mode(self, mode: str) -> None:
        """Refuse a mode that cannot be chosen; errors as of `set_mode`."""
        if mode != "frozen_offsets" or not self.get_buffer("frozen").numel():
            check_fresh_mode(mode)

    def begin_recording(self) -> None:
        """Count partial sums from now on, in place of reading them, until `histogram` is None again."""
        device, self.most = self.get_buffer("start").device, 0
        self.histogram = torch.zeros((self.rows + 1) ** 2, dtype=torch.int64, device=device)

    def set_tables(self, state: Mapping[str, Tensor]) -> None:
        """Take the tables of a calibration; offsets that were frozen before are of other comparators and go."""
        device = self.get_buffer("start").device
        check_state(state, self.rows)
        for name in TABLES:
            self._buffers[name] = state[name].to(device)
        self._buffers["frozen"] = torch.zeros(0, 0, 0, device=device)
        self._quantiles = self._tables = None
        if self.mode == "frozen_offsets":
            self.set_mode("iid")

    def sample_offsets(self, seed: int) -> None:
        """Draw the quantile of every comparator's offset: (array, column, reference), or one a column and array.

        Raises:
            InputError: Not calibrated, or no seed.
        """
        self._check_calibrated()
        references = self.get_buffer("centroid").shape[1] - 1
        shape = (self.arrays, self.columns, 1 if int(self.get_buffer("one_draw")) else references)
        drawn = offset_generator(seed, self.noise.layer).standard_normal(shape).astype(np.float32)
        self._buffers["frozen"] = torch.from_numpy(drawn).to(self.get_buffer("start").device)
        self.set_mode("frozen_offsets")

    @torch.no_grad()
    def read(
        self,
        x: Float[Tensor, "image channel height width"],
        weight: Float[Tensor, "column input"],
        window: Window,
    ) -> Float[Tensor, "image column position"]:
        """Sums over all sub-arrays of what is read, in MAC units.

        Float32 where that is exact, which float64 always is. On a CPU the packed network's kernels read, but frozen
        offsets are for torch's own operations everywhere.

        Args:
            x: The inputs as a map: levels.
            weight: Signs or odd integers, with inputs numbered as in `Window`.
            window: Where the inputs lie.

        Raises:
            InputError: Not calibrated, or not for the rows that are on here.
        """
        recording = self.histogram is not None
        if not recording:
            self._check_calibrated()
        n_active = self._on(window, recording)
        x, planes = x.float(), weight_planes(weight, self.weight_bits)
        if x.device.type == "cpu" and with_kernels and (recording or self.mode != "frozen_offsets"):
            total = self._read_packed(x, planes, window)
        else:
            total = self._read_torch(x, planes, window, torch.from_numpy(n_active).to(x))
        return self._macs(total).transpose(0, 1).contiguous()

    def result(
        self, read: Float[Tensor, "*sums"], exact: Callable[[Tensor], Tensor], x: Tensor, weight: Tensor
    ) -> Tensor:
        """The values that were read with the gradient of the exact sums, computed only where one is wanted.

        While counts are recorded for a calibration, the exact sums themselves.
        """
        if self.histogram is not None:
            return exact(x)
        if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
            return read
        return cast(Tensor, StraightThrough.apply(exact(x), read))

    def extra_repr(self) -> str:
        """Mode and levels, for printing: whether noise is on."""
        noise = f"noise on (seed {self.noise.seed})" if self.mode in _NOISY else "no noise"
        about = f"mode={self.mode}, {noise}, rows={self.rows}, arrays={self.arrays}, order={self.order}"
        levels = f"levels={self.get_buffer('centroid').shape[1]}" if self.calibrated else "not calibrated"
        frozen = ", offsets sampled" if self.get_buffer("frozen").numel() else ""
        return f"{about}, {levels}{frozen}"

    def _read_packed(
        self, x: Float32[Tensor, "image channel height width"], planes: Tensor, window: Window
    ) -> Int32[Tensor, "column image position"]:
        """The sums in fixed point by the packed network's kernels."""
        layout = lay_out_planes(planes, window, self.rows, self.order, on_off=self.taken.on_off)
        if self.histogram is not None:
            self.histogram += packed_histogram(x, self.taken, layout)
            return torch.zeros(len(planes) // self.weight_bits, len(x), window.positions, dtype=torch.int32)
        if self._tables is None:
            self._tables = kernel_tables(*(self.get_buffer(name) for name in ("start", "nominal", "share", "pair")))
        keys = None if self.mode == "nominal" else image_keys(self.noise.on(x.device), len(x))
        return packed_sums(x, self.taken, layout, self.weight_bits, self._tables, keys)

    def _read_torch(
        self,
        x: Float32[Tensor, "image channel height width"],
        planes: Float32[Tensor, "bit_column input"],
        window: Window,
        on: Float32[Tensor, "array position"],
    ) -> Int32[Tensor, "column image position"]:
        """The sums in fixed point by torch's own operations."""
        mode, starts = self.mode, self._starts(x.device)
        if mode == "frozen_offsets" and self._quantiles is None:
            self._quantiles = quantiles_of(self.get_buffer("line_v"), self.get_buffer("offset_v"))
        size = max(1, _CHUNK // (window.positions * max(planes.shape)))
        sums = [
            self._read_images(patches(part, window, self.taken.top), planes, on, starts, mode) for part in x.split(size)
        ]
        return torch.cat(sums, dim=1)

    def _read_images(
        self,
        inputs: Float32[Tensor, "input image_position"],
        weight: Float32[Tensor, "bit_column input"],
        on: Float32[Tensor, "array position"],
        starts: Float32[Tensor, " n_active"],
        mode: str,
    ) -> Int32[Tensor, "column image position"]:
        """The sums of a block of images, in fixed point: every bit of the inputs with every bit of the weights."""
        total: Tensor | None = None
        for bit, plane in enumerate(self.taken.planes(inputs)):
            # One set of levels a layer. Sets for each pair of bits would be chosen here, by `bit` and the weight's.
            read = added_up(self._read_plane(plane, weight, on, starts, mode), self.weight_bits)
            total = read if total is None else total.add_(read, alpha=2**bit)
        assert total is not None
        return total

    def _read_plane(
        self,
        inputs: Float32[Tensor, "input image_position"],
        weight: Float32[Tensor, "bit_column input"],
        on: Float32[Tensor, "array position"],
        starts: Float32[Tensor, " n_active"],
        mode: str,
    ) -> Int32[Tensor, "bit_column image position"]:
        """The sums of single bits over all sub-arrays, in fixed point."""
        shape = (len(weight), inputs.shape[1] // on.shape[1], on.shape[1])
        total = torch.zeros(shape, dtype=torch.int32, device=inputs.device)
        for array in range(self.arrays):
            rows = slice(self.edges[array], self.edges[array + 1])
            here = inputs[rows].sum(0).view(shape[1:]) if self.taken.on_off else on[array]
            start = starts[here.long()]
            product = (weight[:, rows] @ inputs[rows]).view(shape)
            # Of the rows that are on, those of product -1: (on - sum) / 2.
            entry = torch.add(start + here / 2, product, alpha=-0.5).long()
            if self.histogram is not None:
                self.histogram += torch.bincount(entry.flatten(), minlength=len(self.histogram))
            elif mode == "frozen_offsets":
                total += self._frozen(entry, start.long(), array)
            else:
                total += self._looked_up(entry, mode)
        return total

    def _macs(self, total: Int32[Tensor, "column image position"]) -> Float[Tensor, "column image position"]:
        """Sums in fixed point as numbers."""
        one = 2.0 ** int(self.get_buffer("fraction_bits").sum())
        bound = (self.taken.top * (2**self.weight_bits - 1) * self.arrays) << 15
        wide = bound > _EXACT and bool(total.numel()) and int(total.abs().max()) > _EXACT
        return (total.double() if wide else total.float()) / one

    def _looked_up(self, entry: Int64[Tensor, "*read"], mode: str) -> Int32[Tensor, "*read"]:
        """Centroids of nominal codes, or of codes drawn from their probabilities; in fixed point."""
        if mode == "nominal":
            return self.get_buffer("nominal").index_select(0, entry.flatten()).view(entry.shape)
        drawn = torch.rand(entry.shape, generator=self.noise.on(entry.device), device=entry.device)
        return alias_centroids(self.get_buffer("share"), self.get_buffer("pair"), entry, drawn)

    def _frozen(
        self, entry: Int64[Tensor, "bit_column image position"], start: Int64[Tensor, "*image position"], array: int
    ) -> Int32[Tensor, "bit_column image position"]:
        """Centroids of codes of the frozen comparators, in fixed point."""
        quantiles = self._quantiles
        assert quantiles is not None
        generator = self.noise.on(entry.device)
        voltage_v = voltages_v(quantiles, entry, torch.randn(entry.shape, generator=generator, device=entry.device))
        noise_v = float(self.get_buffer("noise_v"))
        if noise_v:
            drawn = torch.randn(entry.shape, generator=generator, device=entry.device)
            voltage_v.add_(drawn, alpha=noise_v)
        table, centroid = self.get_buffer("table"), self.get_buffer("centroid")
        limits_v = thresholds_v(quantiles, self.get_buffer("reference_v"), table, self.get_buffer("frozen")[array])
        line = entry if quantiles.by_entry else table[start]
        line = line.expand(entry.shape) if line.ndim == 2 else line
        code = codes_of(voltage_v, limits_v, line, int(self.get_buffer("direction")))
        code += table[start] * centroid.shape[1]
        return centroid.flatten().index_select(0, code.flatten()).view(code.shape)

    def _on(self, window: Window, recording: bool) -> Float32[np.ndarray, "array position"]:
        """The number of rows that are on, or can be, of each sub-array at each position."""
        mapping = _mapped(window, self.rows, self.order, self.taken.on_off)
        self.most = max(self.most, mapping.kinds[-1])
        start = self.get_buffer("start")
        missing = [] if recording else [n for n, first in enumerate(start.tolist()) if first < 0 and n in mapping.kinds]
        if missing:
            raise InputError(
                f"levels are missing for {', '.join(map(str, missing))} active rows",
                hint="calibrate with images of this size",
            )
        return mapping.n_active[mapping.kind].T.astype(np.float32)

    def _starts(self, device: torch.device) -> Float32[Tensor, " n_active"]:
        """The first entry of each number of active rows; -1 where there are no levels."""
        if self.histogram is not None:
            return torch.arange(self.rows + 1, dtype=torch.float32, device=device) * (self.rows + 1)
        return self.get_buffer("start").to(device, torch.float32)

    def _check_calibrated(self) -> None:
        if not self.calibrated:
            raise InputError(
                f"mode {self.mode} needs levels, and this layer is not calibrated",
                hint="calibrate(model, training_images), or set_mode(model, 'ideal')",
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **keywords: Any) -> None:
        """Make room for tables of another size, and refuse those that do not fit."""
        names = [*TABLES, "frozen", "mode_number"]
        given = {name: state_dict[prefix + name] for name in names if prefix + name in state_dict}
        if len(given) == len(names):
            place = f"state of {prefix.removesuffix('.reader.')}"
            try:
                check_state(given, self.rows)
                check_frozen(given, (self.arrays, self.columns), READ_MODES)
            except InputError as error:
                raise InputError(error.message, place=place, hint=error.hint) from error
            for name, tensor in given.items():
                self._buffers[name] = torch.empty_like(tensor, device=self.get_buffer(name).device)
            self._quantiles = self._tables = None
        super()._load_from_state_dict(state_dict, prefix, *args, **keywords)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Reader:
        """Move to another device, but never round voltages to a shorter type: `half()` leaves them as they are."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            after = self._buffers[name]
            if tensor is not None and after is not None and after.dtype != tensor.dtype:
                self._buffers[name] = tensor.to(after.device)
        self._quantiles = self._tables = None
        return self


def check_fresh_mode(mode: str) -> None:
    """Refuse a mode that a layer without a calibration cannot be in.

    Raises:
        InputError: There is no such mode, or it needs the comparators of a die.
    """
    if mode not in READ_MODES:
        raise InputError(f"mode must be one of {', '.join(READ_MODES)}, got {mode!r}")
    if mode == "frozen_offsets":
        raise InputError("mode frozen_offsets needs a die's comparators", hint="sample_die(model, seed)")


@lru_cache(maxsize=64)
def _mapped(window: Window, rows: int, order: Order, on_off: bool) -> RowMapping:
    return map_window(window, rows, order, on_off=on_off)


def _edges(mapping: RowMapping) -> tuple[int, ...]:
    """Where the inputs of every sub-array begin, and the end of the last: they lie one after the other."""
    return (*np.searchsorted(mapping.array, np.arange(mapping.arrays)).tolist(), mapping.in_features)
