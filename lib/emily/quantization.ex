defmodule Emily.Quantization do
  @moduledoc """
  Matrices of numbers of 2 to 8 bits, and products with them, to be called anywhere, inside `defn` as well.

  Numbers of a row are quantized in groups that share a *scale*. In 4 bits, and groups of 64, a matrix takes little more than a
  quarter of the memory that it has in `:bf16`. On a CPU that is what one gains: products take several times as long as those
  of matrices that are not quantized.

      weight = Emily.Quantization.quantize(kernel, bits: 4, group_size: 64)
      Emily.Quantization.quantized_matmul(x, weight)

  | `:mode` | numbers | `:bits` | `:group_size` | scale |
  | --- | --- | --- | --- | --- |
  | `:affine` | integers, `q * scale + bias` | 2, 3, 4, 5, 6, 8 (4 when absent) | 32, 64, 128 (64 when absent) | a float and a bias of the tensor's type |
  | `:mxfp4` | floats, e2m1 | 4 | 32 | a power of two, e8m0 |
  | `:mxfp8` | floats, e4m3 | 8 | 32 | a power of two, e8m0 |
  | `:nvfp4` | floats, e2m1 | 4 | 16 | a float, e4m3 |

  These are MLX's, bit for bit, and so are the results on a CPU. On Emily each function here is one native operation, eager and
  compiled, but for `take/2`, which takes the rows first. On any other backend or compiler, for vectorized tensors, and in
  gradients it is made of Nx's own operations: `dequantize/1` and `Nx.dot/4`. There sums are rounded otherwise: MLX's
  products on a CPU add up in the tensor's own type, so that a sum of `n` products of `:bf16` may be away by `n` halves
  of its unit, and of `:f16` likewise. `Nx.BinaryBackend` cuts off the bits that a `:bf16` does not have, so numbers and scales
  of that type may be a unit away on it.

  The logits of a small decoder, of two layers 128 wide, are no farther from those of its dequantized form than `1.0e-5` of
  their standard deviation in `:f32`, `0.04` in `:f16` and `0.25` in `:bf16`, on a CPU that adds up as MLX does; see `:exact`.

  Gradients flow to the tensor that is multiplied, and to scales and biases; packed numbers have none.
  """

  import Nx.Defn, only: [deftransform: 2]

  alias Emily.Quantization.{Checkpoint, Dequantize, Gather, Product, Quantize}
  alias Emily.QuantizedWeight

  @doc """
  Quantizes along the last axis of a tensor of `:f32`, `:f16` or `:bf16` with two axes or more.

  The last axis has a multiple of `:group_size` elements. Returns an `Emily.QuantizedWeight`. What becomes of groups with NaN or
  infinities is undefined.

  ## Options

    * `:mode` - `:affine`, `:mxfp4`, `:mxfp8` or `:nvfp4`; `:affine` when absent
    * `:bits` - of a number, see above
    * `:group_size` - how many numbers share a scale, see above

  ## Examples

      iex> x = Nx.linspace(0, 30, n: 64) |> Nx.reshape({2, 32})
      iex> weight = Emily.Quantization.quantize(x, group_size: 32)
      #Emily.QuantizedWeight<f32[2][32], affine, 4 bits in groups of 32>
      iex> Emily.Quantization.dequantize(weight)[1][0..3]
      #Nx.Tensor<
        f32[4]
        [15.0, 16.0, 16.0, 17.0]
      >
  """
  deftransform(quantize(tensor, opts \\ []), do: Quantize.apply(tensor, opts))

  @doc """
  The numbers of a quantized matrix, with its shape and type.

  ## Examples

      iex> weight = Emily.Quantization.quantize(Nx.iota({1, 32}, type: :bf16), mode: :mxfp8)
      iex> Emily.Quantization.dequantize(weight)[0][28..31]
      #Nx.Tensor<
        bf16[4]
        [28.0, 28.0, 30.0, 32.0]
      >
  """
  deftransform(dequantize(weight), do: Dequantize.apply(weight))

  @doc """
  Multiplies with a quantized matrix: `x · wᵀ`, or `x · w` if it is not transposed.

  `x` has a last axis as long as the matrix's rows, `{…, columns}`, and the result has one element for each row; with
  `transpose: false` the other way round. Of several matrices, `{…, rows, columns}`, the axes before the last two broadcast
  against those of `x`. The result has the type of `x`; if affine scales have another one it is `:f32`.

  ## Options

    * `:transpose` - `true` when absent
    * `:exact` - whether a CPU gives the bits that MLX's Python package does, which adds up `:f16` and `:bf16` in these types;
      `true` when absent. With `false` such a tensor is multiplied with the dequantized matrix, in sums of `:f32`, which
      rounds less, and is faster for many rows. A GPU does the same in either case

  ## Examples

      iex> weight = Emily.Quantization.quantize(Nx.iota({2, 32}, type: :f32), bits: 8, group_size: 32)
      iex> x = Nx.broadcast(1.0, {3, 32})
      iex> Emily.Quantization.quantized_matmul(x, weight) |> Nx.round()
      #Nx.Tensor<
        f32[3][2]
        [
          [496.0, 1520.0],
          [496.0, 1520.0],
          [496.0, 1520.0]
        ]
      >
      iex> Emily.Quantization.quantized_matmul(Nx.tensor([1.0, 0.0]), weight, transpose: false) |> Nx.shape()
      {32}
  """
  deftransform(quantized_matmul(x, weight, opts \\ []), do: Product.apply(x, weight, opts))

  @doc """
  Multiplies pairs of matrices, of which the second one is quantized, that indices name: a mixture of experts.

  `x` is `{…, rows, inner}` and the weight `{…, outer, inner}`, or `{…, inner, outer}` if it is not transposed. The
  indices count the matrices of their side, all axes but the last two, in row-major order. Both broadcast to the axes of
  the result, which is `{…, rows, outer}`. Without indices of its own a side's matrices go in order; without any this
  is `quantized_matmul/3`.

  An index that is not within its side is an error, at once or when the result is read, as of `Nx.take/3`.

  ## Options

    * `:lhs_indices`, `:rhs_indices` - integers of any shape, which broadcast against each other
    * `:transpose` - whether the quantized matrices are transposed; `true` when absent
    * `:sorted_indices` - whether the indices, if only one side has some, ascend, which helps some devices;
      `false` when absent

  ## Examples

      iex> experts = Nx.stack([Nx.broadcast(1.0, {2, 32}), Nx.broadcast(2.0, {2, 32})])
      iex> experts = Emily.Quantization.quantize(experts, group_size: 32)
      iex> x = Nx.broadcast(1.0, {3, 1, 32})
      iex> Emily.Quantization.gather_qmm(x, experts, rhs_indices: Nx.tensor([1, 0, 1]))
      #Nx.Tensor<
        f32[3][1][2]
        [
          [
            [64.0, 64.0]
          ],
          [
            [32.0, 32.0]
          ],
          [
            [64.0, 64.0]
          ]
        ]
      >
  """
  deftransform(gather_qmm(x, weight, opts \\ []), do: Gather.apply(x, weight, opts))

  @doc """
  Rows of a quantized matrix, dequantized: the lookup of a quantized embedding.

  `indices` are integers of any shape into the matrix's first axis; what they name is in place of that axis.

  ## Examples

      iex> table = Emily.Quantization.quantize(Nx.iota({4, 32}, type: :f32), bits: 8, group_size: 32)
      iex> Emily.Quantization.take(table, Nx.tensor([3, 0])) |> Nx.slice([0, 0], [2, 3]) |> Nx.round()
      #Nx.Tensor<
        f32[2][3]
        [
          [96.0, 97.0, 98.0],
          [0.0, 1.0, 2.0]
        ]
      >
  """
  deftransform take(weight, indices) do
    QuantizedWeight.check!(weight)
    indices = Nx.to_tensor(indices)
    # A single row is none without an axis of rows, which the native operation wants.
    list = if indices.shape == {}, do: Nx.new_axis(indices, 0), else: indices
    parts = for part <- QuantizedWeight.parts(weight), do: Nx.take(part, list)
    rows = Dequantize.of(weight, parts, QuantizedWeight.type(weight))
    if indices.shape == {}, do: Nx.squeeze(rows, axes: [0]), else: rows
  end

  @doc """
  Reads a checkpoint as `Emily.Safetensors.load/2` does, and gives what MLX's own tools have quantized in it as
  `Emily.QuantizedWeight`.

  Where `NAME.weight` is of `:u32` and `NAME.scales` are beside it, and `NAME.biases` if it is affine, they are one
  weight, called `NAME.weight`. All else is tensors. What `path` may be is said at `Emily.Safetensors`.

  How the numbers are packed is said by `"quantization"`, or `"quantization_config"`, in the `config.json` of the
  checkpoint's folder, as mlx-lm writes it: `"bits"`, `"group_size"` and `"mode"` (affine when absent), and for layers that are
  packed otherwise, or not at all, the same or `false` under the layer's name.

  ## Options

    * `:only` - as that of `Emily.Safetensors.load/2`; a weight is named without its scales and biases
    * `:device`, `:progress` - as those of `Emily.Safetensors.load/2`
    * `:mode`, `:bits`, `:group_size` - as those of `quantize/2`; if one is given, `config.json` is not read
    * `:type` - as that of `Emily.QuantizedWeight.new/4`

  Raises an `ArgumentError` that names the file and the tensor if a part is missing, if settings make no sense, or if the
  shapes are not what they say.

  ## Examples

      iex> folder = Path.join(System.tmp_dir!(), "emily-#{System.pid()}-quantized")
      iex> File.mkdir_p!(folder)
      iex> weight = Emily.Quantization.quantize(Nx.iota({4, 64}, type: :f32), bits: 8, group_size: 32)
      iex> parts = %{"up.weight" => weight.packed, "up.scales" => weight.scales, "up.biases" => weight.biases}
      iex> Emily.Safetensors.save(parts, Path.join(folder, "model.safetensors"))
      iex> config = JSON.encode!(%{"quantization" => %{"bits" => 8, "group_size" => 32}})
      iex> File.write!(Path.join(folder, "config.json"), config)
      iex> params = Emily.Quantization.load(folder)
      iex> params["up.weight"]
      #Emily.QuantizedWeight<f32[4][64], affine, 8 bits in groups of 32>
      iex> File.rm_rf!(folder)
  """
  @spec load(Path.t(), keyword()) :: %{String.t() => Nx.Tensor.t() | QuantizedWeight.t()}
  def load(path, opts \\ []), do: Checkpoint.load(path, opts)
end
