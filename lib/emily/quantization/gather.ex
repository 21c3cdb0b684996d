defmodule Emily.Quantization.Gather do
  @moduledoc false
  # The products of pairs of matrices, the second one quantized, that indices name.

  alias Emily.Quantization.{Block, Dequantize, Product}
  alias Emily.QuantizedWeight

  @fields [:mode, :bits, :group_size, :transpose, :left, :right, :sorted]
  @enforce_keys @fields
  defstruct @fields

  @doc "As `Emily.Quantization.gather_qmm/3`."
  @spec apply(Nx.Tensor.t(), QuantizedWeight.t(), keyword()) :: Nx.Tensor.t()
  def apply(x, %QuantizedWeight{} = weight, opts) do
    opts =
      Keyword.validate!(opts, [
        :lhs_indices,
        :rhs_indices,
        transpose: true,
        sorted_indices: false
      ])

    for name <- [:transpose, :sorted_indices], do: Product.boolean!(name, opts[name])
    indices = for name <- [:lhs_indices, :rhs_indices], do: indices!(name, opts[name])

    case indices do
      [nil, nil] -> Product.apply(x, weight, transpose: opts[:transpose])
      [left, right] -> pairs(x, weight, left, right, opts)
    end
  end

  defp indices!(_name, nil), do: nil

  defp indices!(name, indices) do
    indices = Nx.to_tensor(indices)

    if not Nx.Type.integer?(indices.type) or indices.vectorized_axes != [] do
      raise ArgumentError,
            "expected #{inspect(name)} to be integers, got: #{QuantizedWeight.inspect_tensor(indices)}"
    end

    indices
  end

  defp pairs(x, weight, left, right, opts) do
    {x, parts} = Product.together(x, weight)
    {inner, outer} = Product.sizes(weight, opts[:transpose])

    if tuple_size(x.shape) < 2 or Block.last(x.shape) != inner,
      do: Product.refuse(x, weight, inner)

    if x.vectorized_axes != [],
      do:
        raise(
          ArgumentError,
          "expected a tensor without vectorized axes, got: #{inspect(x.vectorized_axes)}"
        )

    block = %__MODULE__{
      mode: weight.mode,
      bits: weight.bits,
      group_size: weight.group_size,
      transpose: opts[:transpose],
      left: left != nil,
      right: right != nil,
      sorted: opts[:sorted_indices]
    }

    tensors = [x | parts] ++ Enum.reject([left, right], &is_nil/1)
    rows = elem(x.shape, tuple_size(x.shape) - 2)
    shape = pair_axes(left, x.shape, right, hd(parts).shape) ++ [rows, outer]

    if x.type in Block.floats(),
      do: Block.call(block, tensors, Nx.template(List.to_tuple(shape), x.type), &composed/2),
      else: composed(block, tensors)
  end

  # The axes of the pairs: those of the indices, or of the matrices that go in order.
  defp pair_axes(left, x, right, matrices) do
    [a, b] = for {given, own} <- [{left, x}, {right, matrices}], do: outer(given, own)
    {shape, _names} = Nx.Shape.binary_broadcast(a, names(a), b, names(b))
    Tuple.to_list(shape)
  end

  defp outer(nil, shape), do: shape |> Tuple.to_list() |> Enum.drop(-2) |> List.to_tuple()
  defp outer(indices, _shape), do: indices.shape
  defp names(shape), do: List.duplicate(nil, tuple_size(shape))

  defp composed(block, [x | tensors]) do
    {parts, indices} = Enum.split(tensors, if(block.mode == :affine, do: 3, else: 2))
    [left, right] = sides(block, indices)
    [_packed, scales | _biases] = parts
    type = if x.type in Block.floats(), do: x.type, else: {:f, 32}
    parts = for part <- parts, do: chosen(part, right)
    matrices = Dequantize.of(block, parts, if(block.mode == :affine, do: scales.type, else: type))
    Product.multiply(chosen(x, left), Nx.as_type(matrices, x.type), block.transpose)
  end

  defp sides(%{left: true, right: true}, [left, right]), do: [left, right]
  defp sides(%{left: true}, [left]), do: [left, nil]
  defp sides(_right, [right]), do: [nil, right]

  # The matrices at the indices, which count them in row-major order.
  defp chosen(matrices, nil), do: matrices

  defp chosen(matrices, indices) do
    [rows, columns] = matrices |> Nx.shape() |> Tuple.to_list() |> Enum.take(-2)
    matrices |> Nx.reshape({:auto, rows, columns}) |> Nx.take(indices)
  end
end
