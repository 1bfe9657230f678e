"""Layers of binary weights, of several bits, or of real ones: a dense one, and one that slides over a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Int8, Integer, UInt64

from cosim.errors import InputError
from cosim.network.levels import LEVEL_BITS_MAX, Quantizer
from cosim.network.outputs import Affine, BatchNorm, Residual, Support, Threshold, expect_array
from cosim.network.packing import pack_bits, padding_is_clear, unpack_signs, words_for
from cosim.network.window import Pool, Window

Input = Literal["pixels", "binary", "on_off", "real"]
INPUTS: tuple[Input, ...] = get_args(Input)
PIXEL_MAX = 255
BITS_MAX = 15
_SUM_LIMIT = 2**30


@dataclass(frozen=True, slots=True, eq=False)
class DenseLayer:
    """A fully connected layer with weights +1 and -1, or with integers made of several such bits.

    A weight of several bits is the odd integer sum of 2**b * bit b, each bit +1 or -1 in a column of its own; the
    columns' sums are read one by one, shifted and added. So b bits give -(2**b - 1) to 2**b - 1, and a real weight
    of a first or last layer that is computed digitally is such an integer times the scale of the output.

    A layer of `real_weights` is digital: it adds the products with its float32 weights in float64, where each product
    is exact, one after the other in the order of its inputs from 0, and rounds their sum to float32 once.

    After a map its inputs are numbered as torch flattens one: channel by channel, row by row.

    Attributes:
        name: Unique in its network.
        input: "pixels": raw 8-bit pixels, summed digitally and exactly; "binary": +1 and -1, summed by the
            circuit; "on_off": 1 and 0 (HBNN; Liu et al., DAC 2018), summed by the circuit, where 0 turns its row off;
            "real": the real outputs of a layer that has such, for real weights.
        in_features: Number of inputs.
        packed: Weights as bits, 1 is +1, least significant first, padding bits 0; (column, word). With several
            bits a weight all columns of the lowest bit come first.
        output: Threshold (a binary output), Quantizer (one of several bits), Residual (a real output, whose sign is the
            binary one) or Affine (logits).
        batch_norm: What `output` was folded from, if it is known.
        source: Name of the earlier layer whose binary output this one takes; "" for the one before it.
        weight_bits: Bits of one weight, 1 to 15.
        digital: Whether binary or on_off inputs are summed digitally and exactly too, not by the circuit.
        support: A factor for each block of weights, if there are such.
        real_weights: Real weights, (output, input); `packed` then holds their signs. Their output is real.
        activation_bits: Bits of one input that is binary or on_off, 1 to 7: each is read with every bit of the weights,
            see `cosim.network.levels`. Inputs +1 and -1 become odd integers, 1 and 0 become 0 to 2**bits - 1; padding
            holds the same bit in all of them. A real output before it is cut into levels.
        scale_inputs: Whether the sums of each position are multiplied by K, the mean magnitude of the real numbers
            whose signs are summed there (XNOR-Net; Rastegari et al., ECCV 2016, section 3.2). Of the layer before,
            A = (|x_1| + |x_2| + ...) / channels at every pixel, and K is the average of A over the kernel, where
            padding counts as |pad_value|; both are float32, added channel by channel and row by row from 0, and then
            divided. The sum times K is a real sum, rounded once.
    """

    name: str
    input: Input
    in_features: int
    packed: UInt64[np.ndarray, "column word"]
    output: Threshold | Affine | Residual | Quantizer
    batch_norm: BatchNorm | None = None
    source: str = ""
    weight_bits: int = 1
    digital: bool = False
    support: Support | None = None
    real_weights: Float32[np.ndarray, "output input"] | None = None
    activation_bits: int = 1
    scale_inputs: bool = False

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, padding bits that are set and unknown kinds.

        Raises:
            InputError: With the layer's name as the place.
        """
        try:
            self._check()
        except InputError as error:
            raise InputError(error.message, place=f"layer {self.name}", hint=error.hint) from None

    @property
    def out_features(self) -> int:
        """The number of outputs."""
        return self.packed.shape[0] // self.weight_bits

    @property
    def columns(self) -> int:
        """The number of columns: as many as outputs for each bit of a weight."""
        return self.packed.shape[0]

    @property
    def reads_circuit(self) -> bool:
        """Whether its partial sums are read from sub-arrays."""
        return self.input in ("binary", "on_off") and not self.digital and self.real_weights is None

    @property
    def bit_pairs(self) -> tuple[tuple[int, int], ...]:
        """Every bit of its weights with every bit of its activations, 0 the lowest: the pairs that are read.

        What is read of a pair (i, j) is worth 2**(i + j).
        """
        return tuple((i, j) for i in range(self.weight_bits) for j in range(self.activation_bits))

    @property
    def gives_reals(self) -> bool:
        """Whether its output is real, so that a layer after it may take the numbers and not their signs."""
        return isinstance(self.output, Residual)

    @property
    def output_bits(self) -> int:
        """Bits of an output that is not real."""
        return self.output.bits if isinstance(self.output, Quantizer) else 1

    @property
    def sum_taps(self) -> int:
        """How many sums are added before they meet a threshold or a scale: those of an average pooling of the sums."""
        return 1

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the output."""
        return self.out_features, 1, 1

    @property
    def sums_size(self) -> tuple[int, int]:
        """Height and width of the sums that batch norm or threshold take: after a pooling of the sums."""
        return 1, 1

    @property
    def signs(self) -> Int8[np.ndarray, "column row"]:
        """What every column holds, as +1 and -1."""
        return unpack_signs(self.packed, self.in_features)

    @property
    def weights(self) -> Integer[np.ndarray, "output row"]:
        """The weights: +1 and -1, or integers where they have several bits."""
        if self.weight_bits == 1:
            return self.signs
        by_bit = self.signs.reshape(self.weight_bits, -1, self.in_features).astype(np.int32)
        return (by_bit << np.arange(self.weight_bits, dtype=np.int32)[:, None, None]).sum(axis=0, dtype=np.int32)

    @property
    def reach(self) -> int:
        """The largest magnitude of an exact sum, in units of its last bit."""
        one = (PIXEL_MAX if self.input == "pixels" else 2**self.activation_bits - 1) * (2**self.weight_bits - 1)
        return self.in_features * one * (1 if self.support is None else int(self.support.value.max()))

    def _check(self) -> None:
        if self.input not in INPUTS:
            raise InputError(f"input must be one of {', '.join(INPUTS)}, got {self.input!r}")
        if self.real_weights is not None:
            self._check_real(self.real_weights)
        elif self.input == "real":
            raise InputError("real inputs need real_weights")
        if not 1 <= self.weight_bits <= BITS_MAX:
            raise InputError(f"weight_bits must be 1 to {BITS_MAX}, got {self.weight_bits}")
        if not 1 <= self.activation_bits <= LEVEL_BITS_MAX:
            raise InputError(f"activation_bits must be 1 to {LEVEL_BITS_MAX}, got {self.activation_bits}")
        if self.activation_bits > 1 and self.input in ("pixels", "real"):
            raise InputError(f"activation_bits is for binary or on_off inputs, not for {self.input}")
        if self.scale_inputs:
            self._check_scaled()
        if self.digital and self.input in ("pixels", "real"):
            raise InputError(f"a layer of {self.input} inputs is digital as it is, digital is for binary inputs")
        if self.in_features < 1 or 2 * self.reach * self.sum_taps > _SUM_LIMIT:
            raise InputError(f"in_features must be positive and sums below 2**29, got {self.in_features}")
        columns = self.packed.shape[0] if self.packed.ndim else 0
        expect_array("packed", self.packed, np.uint64, (columns, words_for(self.in_features)))
        if not padding_is_clear(self.packed, self.in_features):
            raise InputError(f"padding bits after input {self.in_features} of packed weights must be 0")
        if columns % self.weight_bits:
            raise InputError(f"{columns} columns are no multiple of {self.weight_bits} bits a weight")
        if self.support is not None:
            self._check_support(self.support)
        norm = None if self.batch_norm is None else self.batch_norm.gamma
        folded = self.output.value if isinstance(self.output, Threshold | Quantizer) else self.output.scale
        for name, values in (("output", folded), ("batch norm", norm)):
            if values is not None and len(values) != self.out_features:
                raise InputError(f"{name} has {len(values)} columns, the weights have {self.out_features}")

    def _check_real(self, weights: Float32[np.ndarray, "output input"]) -> None:
        expect_array("real_weights", weights, np.float32, (len(self.packed), self.in_features))
        for name, given in (
            ("weight_bits", self.weight_bits > 1),
            ("a support", self.support is not None),
            ("digital", self.digital),
        ):
            if given:
                raise InputError(f"real weights are digital and of one column an output, {name} is for binary weights")
        if isinstance(self.output, Threshold | Quantizer):
            raise InputError("real weights need a residual or an affine output: a threshold is one of integers")
        if not np.array_equal(self.packed, pack_bits(weights >= 0)):
            raise InputError("packed weights must be the signs of the real weights")

    def _check_scaled(self) -> None:
        """K is for sums of binary weights and signs, and makes them real."""
        if self.input != "binary" or self.activation_bits > 1 or self.real_weights is not None:
            raise InputError("scale_inputs is for binary weights on inputs of +1 and -1")
        if isinstance(self.output, Threshold | Quantizer):
            raise InputError("scaled sums need a residual or an affine output: a threshold is one of integers")

    def _check_support(self, support: Support) -> None:
        if self.input == "pixels" or self.weight_bits > 1:
            raise InputError("a support is for weights of one bit and inputs that are no pixels")
        expected = (-(-self.in_features // support.block), self.columns)
        if support.value.shape != expected:
            raise InputError(f"a support of blocks of {support.block} must be {expected}, got {support.value.shape}")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ConvLayer(DenseLayer):
    """A convolution with weights +1 and -1: a dense layer applied at every position of a window.

    Its inputs are numbered as in `Window`: kernel position first, then channel.

    Attributes:
        window: Where the inputs lie; `in_features` is the window's.
        pool: Max or average pooling of the sums or of the outputs, if there is any.
    """

    window: Window
    pool: Pool | None = None

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the output, after the pooling."""
        size = self.window.out_size
        return self.out_features, *(size if self.pool is None else self.pool.window(*size).out_size)

    @property
    def sums_size(self) -> tuple[int, int]:
        """Height and width of the sums that batch norm or threshold take: after a pooling of the sums."""
        before = self.pool is None or self.pool.of == "outputs"
        return self.window.out_size if before else self.out_shape[1:]

    @property
    def gives_reals(self) -> bool:
        """Whether its output is real, as an average of signs is too."""
        averaged = self.pool is not None and (self.pool.of, self.pool.kind) == ("outputs", "average")
        return isinstance(self.output, Residual) or averaged

    @property
    def sum_taps(self) -> int:
        """How many sums are added before they meet a threshold or a scale."""
        real = self.real_weights is not None or self.scale_inputs
        return (
            1 if real or self.pool is None or (self.pool.of, self.pool.kind) != ("sums", "average") else self.pool.taps
        )

    def _check(self) -> None:
        DenseLayer._check(self)
        if self.in_features != self.window.in_features:
            raise InputError(
                f"in_features is {self.in_features}, but a window of {self.window.kernel} over "
                f"{self.window.channels} channels has {self.window.in_features} inputs"
            )
        if self.input == "pixels" and self.window.pad_value != 0:
            raise InputError(f"pixels are padded with 0, got pad_value {self.window.pad_value}")
        if self.input == "on_off" and self.window.pad_value == -1:
            raise InputError("inputs that are on or off are padded with 0 or 1, got pad_value -1")
        if self.pool is not None:
            if isinstance(self.output, Affine) and self.pool.of == "outputs":
                raise InputError("a layer with an affine output pools its sums, not its outputs")
            if isinstance(self.output, Quantizer) and (self.pool.of, self.pool.kind) == ("outputs", "average"):
                raise InputError("outputs of several bits have max pooling, an average is one of signs or real outputs")
            self.pool.window(*self.window.out_size)  # Refuses a pooling larger than the map.
