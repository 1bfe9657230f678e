"""Random convolutional networks: odd channels, kernels, strides, paddings, poolings, shortcuts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cosim.network.layers import (
    Affine,
    BatchNorm,
    ConvLayer,
    DenseLayer,
    Network,
    Pool,
    Quantizer,
    Residual,
    Support,
    Threshold,
    Window,
)
from cosim.network.packing import pack_bits, pack_signs

Shape = tuple[int, int, int]


def random_conv_network(
    rng: np.random.Generator, *, binary_images: bool = False, most: int = 40, blocks: int = 0
) -> Network:
    """One to three convolutions, perhaps a residual block, then one or two dense layers; some of real weights."""
    shape: Shape = (int(rng.integers(1, 4)), int(rng.integers(3, 9)), int(rng.integers(3, 9)))
    builder = Builder(rng, shape, most, "binary" if binary_images else "pixels", blocks)
    for _ in range(int(rng.integers(1, 4))):
        builder.convolution()
    if rng.random() < 0.6:
        builder.block()
    if rng.random() < 0.5:
        builder.dense(int(rng.integers(1, most)), last=False)
    builder.dense(3, last=True)
    threshold = int(rng.integers(1, 256)) if binary_images else None
    image_shape = shape[1:] if shape[0] == 1 and rng.random() < 0.5 else (*shape[1:], shape[0])
    return Network("conv", tuple(builder.layers), 3, image_shape, {"seed": "none"}, threshold)


def one_convolution(channels: int, columns: int, pad_value: int = 0, kernel: int = 3, pixels: bool = False) -> Network:
    """A convolution over 6x6 pixels that keeps the size, and a dense layer of two logits."""
    window = Window((channels, 6, 6), (kernel, kernel), padding=(kernel // 2, kernel // 2), pad_value=pad_value)
    rng = np.random.default_rng(0)
    packed = pack_signs(random_signs(rng, columns, window.in_features))
    output = Threshold(np.zeros(columns, "i4"), np.ones(columns, "i1"))
    first = ConvLayer("conv", "pixels" if pixels else "binary", window.in_features, packed, output, window=window)
    packed = pack_signs(random_signs(rng, 2, columns * 36))
    last = DenseLayer("last", "binary", columns * 36, packed, Affine(np.ones(2, "f4"), np.ones(2, "f4")))
    return Network("conv", (first, last), 2, (6, 6, channels), {}, None if pixels else 128)


def random_signs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """+1 and -1."""
    return rng.choice(np.array([-1, 1], np.int8), shape)


@dataclass
class Builder:
    """Layers added one after the other; `shape` is that of the last one's output."""

    rng: np.random.Generator
    shape: Shape
    most: int
    input: str
    blocks: int = 0
    layers: list[DenseLayer] = field(default_factory=list)

    def convolution(self, real: bool | None = None) -> None:
        """A convolution with a threshold or a real output."""
        rng = self.rng
        window = self._window()
        columns = int(rng.integers(1, self.most))
        pool = self._pool(window.out_size) if rng.random() < 0.5 else None
        averages = pool is not None and (pool.of, pool.kind) == ("outputs", "average")
        real = rng.random() < 0.3 if real is None else real
        made = self._residual if real else self._threshold if averages or rng.random() < 0.6 else self._quantizer
        output = made(columns, window.in_features)
        self._add(window, columns, output, pool)

    def block(self) -> None:
        """A stream, then a convolution of its signs to which it is added, through a 1x1 convolution or as it is."""
        rng = self.rng
        self.convolution(real=True)
        stream = self.layers[-1].name
        columns, shortcut = self.shape[0], stream
        before = self.shape
        if rng.random() < 0.5:
            columns = int(rng.integers(1, self.most))
            one = Window(before, (1, 1))
            self._add(one, columns, self._residual(columns, one.in_features), None)
            shortcut, self.shape = self.layers[-1].name, before
        window = Window(before, (3, 3), (1, 1), (1, 1), self._pad())
        output = self._residual(columns, window.in_features, shortcut)
        pool = self._pool(window.out_size) if rng.random() < 0.5 else None
        self._add(window, columns, output, pool if pool is None or pool.of == "outputs" else None, source=stream)

    def dense(self, columns: int, *, last: bool) -> None:
        """A dense layer; the last one gives logits."""
        rng, inputs = self.rng, int(np.prod(self.shape))
        output = (self._threshold if rng.random() < 0.6 else self._quantizer)(columns, inputs)
        if last:
            output = Affine(rng.normal(1, 0.3, columns).astype("f4"), rng.normal(0, 2, columns).astype("f4"))
        name = f"dense{len(self.layers)}"
        if last and rng.random() < 0.4:
            weights = self._real_weights(columns, inputs)
            kind = self._real_kind(0)
            about = {"real_weights": weights, "activation_bits": self._activation_bits(kind)}
            self.layers.append(DenseLayer(name, kind, inputs, pack_bits(weights >= 0), output, **about))
            return
        bits = self._bits()
        packed = pack_signs(random_signs(rng, bits * columns, inputs))
        about = {"weight_bits": bits, "digital": bool(rng.random() < 0.3)}
        about["support"] = self._support(inputs, columns) if bits == 1 else None
        kind = self._kind(0)
        about["activation_bits"] = self._activation_bits(kind)
        about["scale_inputs"] = self._scales(kind, output, about["activation_bits"])
        about["digital"] |= self._too_many(inputs, about)
        self.layers.append(DenseLayer(name, kind, inputs, packed, output, **about))
        self.shape = (columns, 1, 1)

    def _add(
        self, window: Window, columns: int, output: Threshold | Residual, pool: Pool | None, source: str = ""
    ) -> None:
        if isinstance(output, Residual) and self.rng.random() < 0.4:
            return self._add_real(window, columns, output, pool, source)
        kind = self._kind(window.pad_value)
        bits = self._bits()
        packed = pack_signs(random_signs(self.rng, bits * columns, window.in_features))
        name = f"conv{len(self.layers)}"
        norm = self._norm(columns) if not isinstance(output, Residual) and self.rng.random() < 0.5 else None
        about = {"batch_norm": norm, "source": source, "window": window, "pool": pool, "weight_bits": bits}
        about["activation_bits"] = self._activation_bits(kind, source)
        about["scale_inputs"] = self._scales(kind, output, about["activation_bits"], source)
        about["digital"] = kind != "pixels" and bool(self.rng.random() < 0.3)
        about["support"] = self._support(window.in_features, columns) if bits == 1 and kind != "pixels" else None
        averages = pool is not None and (pool.of, pool.kind) == ("sums", "average")
        about["digital"] |= kind != "pixels" and self._too_many(window.in_features, about, pool.taps if averages else 1)
        self.layers.append(ConvLayer(name, kind, window.in_features, packed, output, **about))
        self.shape = self.layers[-1].out_shape

    def _too_many(self, inputs: int, about: dict, taps: int = 1) -> bool:
        """Whether sums could leave 32 bits in sub-arrays of seven rows or in blocks; such layers are digital."""
        arrays, largest = 2 * inputs // 7 + 16, 2 ** (about["weight_bits"] - 1)
        if about["support"] is not None:
            arrays, largest = -(-inputs // self.blocks), 8
        return arrays * largest * (2 ** about["activation_bits"] - 1) * taps > 2**15

    def _add_real(self, window: Window, columns: int, output: Residual, pool: Pool | None, source: str) -> None:
        kind = self._real_kind(window.pad_value, source)
        weights = self._real_weights(columns, window.in_features)
        name = f"conv{len(self.layers)}"
        bits = self._activation_bits(kind, source)
        about = {"source": source, "window": window, "pool": pool, "real_weights": weights, "activation_bits": bits}
        self.layers.append(ConvLayer(name, kind, window.in_features, pack_bits(weights >= 0), output, **about))
        self.shape = self.layers[-1].out_shape

    def _real_weights(self, columns: int, inputs: int) -> np.ndarray:
        """Of many exponents, two of them so large that the order of a sum shows where they cancel."""
        weights = self.rng.normal(0, 1, (columns, inputs)) * 2.0 ** self.rng.integers(-20, 2, inputs)
        if inputs > 2:
            first, second = self.rng.choice(inputs, 2, replace=False)
            weights *= 2.0**-44  # The large ones are 1, so that no number grows from layer to layer.
            weights[:, first], weights[:, second] = 1.0, self.rng.choice([-1.0, 1.0], columns)
        return weights.astype("f4")

    def _real_kind(self, pad_value: int, source: str = "") -> str:
        before = {layer.name: layer for layer in self.layers}.get(source, self.layers[-1] if self.layers else None)
        if before is not None and before.gives_reals and self.rng.random() < 0.7:
            return "real"
        return self._kind(pad_value)

    def _activation_bits(self, kind: str, source: str = "") -> int:
        """As many as the layer before it gives; of a real output any."""
        if kind not in ("binary", "on_off") or not self.layers:
            return 1
        before = {layer.name: layer for layer in self.layers}.get(source, self.layers[-1])
        return int(self.rng.choice([1, 1, 2, 3, 4])) if before.gives_reals else before.output_bits

    def _scales(self, kind: str, output: object, bits: int, source: str = "") -> bool:
        before = {layer.name: layer for layer in self.layers}.get(source, self.layers[-1] if self.layers else None)
        may = kind == "binary" and bits == 1 and isinstance(output, Residual | Affine)
        return may and before is not None and before.gives_reals and self.rng.random() < 0.6

    def _support(self, inputs: int, columns: int) -> Support | None:
        if not self.blocks or self.rng.random() < 0.5:
            return None
        value = self.rng.integers(1, 9, (-(-inputs // self.blocks), columns)).astype(np.int32)
        return Support(self.blocks, value, int(self.rng.integers(0, 3)))

    def _kind(self, pad_value: int) -> str:
        kind = "binary" if self.layers else self.input
        return "on_off" if kind == "binary" and pad_value >= 0 and self.rng.random() < 0.4 else kind

    def _window(self) -> Window:
        rng = self.rng
        kernel = tuple(int(rng.integers(1, min(size, 4) + 1)) for size in self.shape[1:])
        stride = tuple(int(each) for each in rng.integers(1, 3, 2))
        padding = tuple(int(rng.integers(0, size)) for size in kernel)
        pad = 0 if not self.layers and self.input == "pixels" else self._pad()
        return Window(self.shape, kernel, stride, padding, pad)

    def _bits(self) -> int:
        return int(self.rng.choice([1, 1, 1, 2, 4]))

    def _pad(self) -> int:
        return int(self.rng.integers(-1, 2))

    def _pool(self, size: tuple[int, int]) -> Pool:
        rng = self.rng
        window = tuple(int(rng.integers(1, min(each, 3) + 1)) for each in size)
        stride = tuple(int(each) for each in rng.integers(1, 3, 2))
        padding = tuple(int(rng.integers(0, each // 2 + 1)) for each in window)
        kind = "max" if rng.random() < 0.6 else "average"
        return Pool(window, stride, padding, "sums" if rng.random() < 0.5 else "outputs", kind)

    def _scale(self, inputs: int) -> float:
        return float(np.sqrt(inputs)) * (150 if not self.layers and self.input == "pixels" else 1)

    def _threshold(self, columns: int, inputs: int) -> Threshold:
        value = self.rng.normal(0, self._scale(inputs) / 2, columns).round().astype(np.int32)
        return Threshold(value, self.rng.choice(np.array([-1, 0, 1], np.int8), columns, p=[0.3, 0.1, 0.6]))

    def _quantizer(self, columns: int, inputs: int) -> Quantizer:
        plain, steps = self._threshold(columns, inputs), 2 ** int(self.rng.choice([2, 2, 3, 4])) - 1
        value = np.sort(self.rng.normal(0, self._scale(inputs), (columns, steps)).round().astype(np.int32), axis=1)
        return Quantizer(np.where(plain.direction[:, None] < 0, value[:, ::-1], value), plain.direction)

    def _residual(self, columns: int, inputs: int, shortcut: str = "") -> Residual:
        scale = self.rng.normal(0, 1 / self._scale(inputs), columns).astype("f4")
        offset = self.rng.normal(0, 0.5, columns).astype("f4")
        if self.rng.random() < 0.5:  # On a coarse grid, where zeros and ties with the clipping occur.
            scale = np.where(scale < 0, np.float32(-0.25), np.float32(0.25))
            offset = np.round(offset * 4) / np.float32(4)
        return Residual(scale, offset, shortcut, bool(self.rng.random() < 0.5))

    def _norm(self, columns: int) -> BatchNorm:
        moments = [self.rng.normal(1, 0.3, columns).astype("f4") for _ in range(3)]
        return BatchNorm(*moments, self.rng.uniform(0.5, 2, columns).astype("f4"), 1e-5)
