defmodule Emily.Quantization.Product do
  @moduledoc false
  # The product of a tensor with quantized matrices. The composed form dequantizes these.

  alias Emily.Quantization.{Block, Dequantize}
  alias Emily.QuantizedWeight

  @enforce_keys [:mode, :bits, :group_size, :transpose, :exact]
  defstruct [:mode, :bits, :group_size, :transpose, :exact]

  @doc "As `Emily.Quantization.quantized_matmul/3`."
  @spec apply(Nx.Tensor.t(), QuantizedWeight.t(), keyword()) :: Nx.Tensor.t()
  def apply(x, %QuantizedWeight{} = weight, opts) do
    opts = Keyword.validate!(opts, transpose: true, exact: true)
    for name <- [:transpose, :exact], do: boolean!(name, opts[name])
    transpose = opts[:transpose]
    {x, parts} = together(x, weight)
    {inner, outer} = sizes(weight, transpose)

    if tuple_size(x.shape) == 0 or Block.last(x.shape) != inner,
      do: refuse(x, weight, inner)

    fields = [
      transpose: transpose,
      exact: opts[:exact],
      mode: weight.mode,
      bits: weight.bits,
      group_size: weight.group_size
    ]

    block = struct!(__MODULE__, fields)

    if x.vectorized_axes != [] or x.type not in Block.floats() do
      composed(block, [x | parts])
    else
      out = Nx.template(shape(x.shape, hd(parts).shape, outer), x.type)
      Block.call(block, [x | parts], out, &composed/2)
    end
  end

  @doc """
  The tensor and the parts of the weight as the native operations take them: floating, and of one type, which
  is the scales' if both are the same and `:f32` if they are not and neither is that.
  """
  @spec together(Nx.Tensor.t(), QuantizedWeight.t()) :: {Nx.Tensor.t(), [Nx.Tensor.t()]}
  def together(x, weight) do
    x = Nx.to_tensor(x)
    x = Nx.as_type(x, Nx.Type.to_floating(x.type))
    parts = weight |> QuantizedWeight.check!() |> QuantizedWeight.parts()
    together(x, parts, QuantizedWeight.type(weight), weight.mode)
  end

  defp together(x, parts, _type, mode) when mode != :affine, do: {x, parts}
  defp together(%{type: type} = x, parts, type, _mode), do: {x, parts}

  defp together(x, [packed | shared], _other, _mode) do
    wide = if x.type in Block.floats(), do: {:f, 32}, else: x.type
    {Nx.as_type(x, wide), [packed | Enum.map(shared, &Nx.as_type(&1, {:f, 32}))]}
  end

  @doc "The axis of the matrices that is summed over, and the other one."
  @spec sizes(QuantizedWeight.t(), boolean()) :: {pos_integer(), pos_integer()}
  def sizes(weight, transpose) do
    shape = QuantizedWeight.shape(weight)
    [rows, columns] = for at <- [2, 1], do: elem(shape, tuple_size(shape) - at)
    if transpose, do: {columns, rows}, else: {rows, columns}
  end

  @doc "Raises that the tensor's last axis does not fit."
  @spec refuse(Nx.Tensor.t(), QuantizedWeight.t(), pos_integer()) :: no_return()
  def refuse(x, weight, inner) do
    raise ArgumentError,
          "expected a tensor whose last axis has #{inner} elements, for #{inspect(weight)}, " <>
            "got: #{QuantizedWeight.inspect_tensor(x)}"
  end

  @doc "Raises unless the option is a boolean."
  @spec boolean!(atom(), term()) :: :ok
  def boolean!(_name, value) when is_boolean(value), do: :ok

  def boolean!(name, value),
    do:
      raise(
        ArgumentError,
        "expected #{inspect(name)} to be true or false, got: #{inspect(value)}"
      )

  defp shape(x, packed, outer) do
    {before, [_inner]} = x |> Tuple.to_list() |> Enum.split(-1)
    {batch, rows} = Enum.split(before, -1)
    own = packed |> Tuple.to_list() |> Enum.drop(-2)
    List.to_tuple(broadcast(batch, own) ++ rows ++ [outer])
  end

  defp broadcast(batch, []), do: batch

  defp broadcast(batch, own) do
    [batch, own]
    |> Enum.map(&Nx.template(List.to_tuple(&1), :u8))
    |> then(fn [a, b] -> Nx.Shape.binary_broadcast(a.shape, a.names, b.shape, b.names) end)
    |> then(fn {shape, _names} -> Tuple.to_list(shape) end)
  end

  defp composed(%{transpose: transpose} = block, [x | parts]) do
    [_packed, scales | _biases] = parts
    type = if x.type in Block.floats(), do: x.type, else: {:f, 32}
    matrices = Dequantize.of(block, parts, if(block.mode == :affine, do: scales.type, else: type))
    multiply(x, Nx.as_type(matrices, x.type), transpose)
  end

  @doc "The products of the last two axes, or the last one of a vector; those before them broadcast."
  @spec multiply(Nx.Tensor.t(), Nx.Tensor.t(), boolean()) :: Nx.Tensor.t()
  def multiply(x, matrices, transpose) do
    at = if transpose, do: 1, else: 0

    if Nx.rank(matrices) == 2,
      do: Nx.dot(x, [-1], matrices, [at]),
      else: multiply_each(x, matrices, at)
  end

  defp multiply_each(x, matrices, at) do
    vector? = Nx.rank(x) == 1
    x = if vector?, do: Nx.new_axis(x, 0), else: x
    {batch, left} = x |> Nx.shape() |> Tuple.to_list() |> Enum.split(-2)
    {own, right} = matrices |> Nx.shape() |> Tuple.to_list() |> Enum.split(-2)
    all = broadcast(batch, own)
    each = fn tensor, last -> tensor |> Nx.broadcast(List.to_tuple(all ++ last)) |> flat(last) end
    products = Nx.dot(each.(x, left), [2], [0], each.(matrices, right), [at + 1], [0])
    rows = if vector?, do: [], else: [hd(left)]
    Nx.reshape(products, List.to_tuple(all ++ rows ++ [Block.last(Nx.shape(products))]))
  end

  defp flat(tensor, [rows, columns]), do: Nx.reshape(tensor, {:auto, rows, columns})
end
