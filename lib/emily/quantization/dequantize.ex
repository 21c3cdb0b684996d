defmodule Emily.Quantization.Dequantize do
  @moduledoc false
  # The numbers that packed ones, scales and biases stand for. The composed form takes MLX's steps.

  alias Emily.Quantization.{Bits, Block, SmallFloat}
  alias Emily.QuantizedWeight

  @enforce_keys [:mode, :bits, :group_size, :type]
  defstruct [:mode, :bits, :group_size, :type]

  @doc "As `Emily.Quantization.dequantize/1`."
  @spec apply(QuantizedWeight.t()) :: Nx.Tensor.t()
  def apply(%QuantizedWeight{} = weight) do
    QuantizedWeight.check!(weight)
    of(weight, QuantizedWeight.parts(weight), QuantizedWeight.type(weight))
  end

  @doc "Of a scheme's parts, in `type`, which is the scales' if they are floats."
  @spec of(struct(), [Nx.Tensor.t()], Nx.Type.t()) :: Nx.Tensor.t()
  def of(scheme, [_packed, scales | _biases] = parts, type) do
    columns = Block.last(scales.shape) * scheme.group_size
    fields = [type: type, mode: scheme.mode, bits: scheme.bits, group_size: scheme.group_size]
    out = Nx.template(Block.with_last(scales.shape, columns), type)

    __MODULE__
    |> struct!(fields)
    |> Block.call(parts, out, &composed/2)
  end

  defp composed(%{bits: bits, type: type} = block, [packed, scales | biases]) do
    codes = Bits.unpack(packed, bits)

    numbers =
      if block.mode == :affine,
        do: Nx.as_type(codes, type),
        else: SmallFloat.decode(codes, bits, type)

    groups = Tuple.insert_at(Nx.shape(scales), Nx.rank(scales), block.group_size)
    scaled = numbers |> Nx.reshape(groups) |> Nx.multiply(scale(block, scales))

    biases
    |> Enum.reduce(scaled, &Nx.add(&2, Nx.new_axis(&1, -1)))
    |> Nx.reshape(Nx.shape(codes))
  end

  defp scale(%{mode: :affine}, scales), do: Nx.new_axis(scales, -1)

  defp scale(%{mode: :nvfp4, type: type}, scales),
    do: scales |> Nx.as_type(:u32) |> SmallFloat.decode(8, type) |> Nx.new_axis(-1)

  defp scale(%{type: type}, scales), do: scales |> SmallFloat.powers(type) |> Nx.new_axis(-1)
end
