defmodule Emily.Quantization.Quantize do
  @moduledoc false
  # Packed numbers, scales and biases of a tensor. The composed form takes MLX's steps.

  alias Emily.Quantization.{Bits, Block, Scheme, SmallFloat}
  alias Emily.QuantizedWeight

  @enforce_keys [:mode, :bits, :group_size]
  defstruct [:mode, :bits, :group_size]

  @doc "As `Emily.Quantization.quantize/2`."
  @spec apply(Nx.Tensor.t(), keyword()) :: QuantizedWeight.t()
  def apply(x, opts) do
    scheme = opts |> Keyword.validate!([:mode, :bits, :group_size]) |> Scheme.new!()
    x = Nx.to_tensor(x)
    check!(x, scheme)
    groups = div(Block.last(x.shape), scheme.group_size)
    words = div(Block.last(x.shape) * scheme.bits, 32)
    packed = Nx.template(Block.with_last(x.shape, words), :u32)
    shared = &Nx.template(Block.with_last(x.shape, groups), &1)

    out =
      if scheme.mode == :affine,
        do: {packed, shared.(x.type), shared.(x.type)},
        else: {packed, shared.(:u8)}

    parts =
      __MODULE__
      |> struct!(Scheme.attributes(scheme))
      |> Block.call([x], out, &composed/2)
      |> Tuple.to_list()

    type = if scheme.mode == :affine, do: nil, else: x.type
    fields = Enum.zip([:packed, :scales, :biases], parts) ++ Scheme.attributes(scheme)
    struct!(QuantizedWeight, [{:type, type} | fields])
  end

  defp check!(x, scheme) do
    fits? =
      x.type in Block.floats() and x.vectorized_axes == [] and tuple_size(x.shape) > 1 and
        rem(Block.last(x.shape), scheme.group_size) == 0

    if not fits? do
      raise ArgumentError,
            "expected a tensor of :f32, :f16 or :bf16 with at least two axes, the last one a multiple of " <>
              "#{scheme.group_size}, got: #{QuantizedWeight.inspect_tensor(x)}"
    end
  end

  defp composed(%{mode: :affine} = block, [x]) do
    groups = grouped(x, block)
    wide = Nx.as_type(groups, :f32)
    {scales, biases} = affine(wide, block.bits)

    codes =
      wide
      |> Nx.subtract(biases)
      |> Nx.divide(scales)
      |> rounded()
      |> Nx.clip(0, 2 ** block.bits - 1)

    {
      packed(codes, x, block.bits),
      shared(Nx.as_type(scales, x.type), x),
      shared(Nx.as_type(biases, x.type), x)
    }
  end

  # In the tensor's own type, in which MLX computes what are powers of two.
  defp composed(block, [x]) do
    groups = grouped(x, block)
    greatest = Nx.tensor(SmallFloat.greatest(block.bits), type: x.type)
    most = groups |> Nx.abs() |> Nx.reduce_max(axes: [-1], keep_axes: true)
    {scales, codes} = scaled(groups, Nx.divide(most, greatest), block)
    {packed(SmallFloat.encode(codes, block.bits), x, block.bits), shared(scales, x)}
  end

  # What is farthest from 0 is a multiple of the scale, which has the sign that makes it so.
  defp affine(groups, bits) do
    zero = Nx.f32(0)
    [least, most] = for fun <- [:reduce_min, :reduce_max], do: extreme(fun, groups)
    negative = Nx.greater(Nx.abs(least), Nx.abs(most))

    step =
      most |> Nx.subtract(least) |> Nx.divide(Nx.f32(2 ** bits - 1)) |> Nx.max(Nx.f32(1.0e-7))

    step = Nx.select(negative, step, Nx.negate(step))
    edge = Nx.select(negative, least, most)
    count = rounded(Nx.divide(edge, step))
    none = Nx.equal(count, zero)
    scales = Nx.select(none, step, Nx.divide(edge, Nx.select(none, Nx.f32(1), count)))
    {scales, Nx.select(none, zero, edge)}
  end

  defp extreme(fun, groups), do: Kernel.apply(Nx, fun, [groups, [axes: [-1], keep_axes: true]])

  defp scaled(groups, scales, %{mode: :nvfp4}) do
    codes = SmallFloat.encode(scales, 8)
    numbers = quotients(groups, SmallFloat.decode(codes, 8, groups.type))
    {Nx.as_type(codes, :u8), Nx.as_type(numbers, :f32)}
  end

  defp scaled(groups, scales, _power_of_two) do
    type = scales.type
    none = Nx.equal(scales, Nx.tensor(0, type: type))
    some = Nx.select(none, Nx.tensor(1, type: type), scales)

    # Log2 in f64 and rounded once is what a device's own function gives.
    exponents =
      some
      |> Nx.as_type(:f64)
      |> Nx.log()
      |> Nx.divide(Nx.f64(:math.log(2)))
      |> Nx.as_type(type)
      |> Nx.ceil()

    codes = Nx.add(Nx.as_type(exponents, :s32), 127)
    {Nx.as_type(codes, :u8), quotients(groups, SmallFloat.powers(codes, type))}
  end

  # Where a scale is too small for its type, MLX makes 0 of what is infinite then, in 4 bits.
  defp quotients(groups, scales) do
    zero = Nx.tensor(0, type: groups.type)
    none = Nx.equal(scales, zero)
    groups = Nx.select(Nx.broadcast(none, Nx.shape(groups)), zero, groups)
    Nx.divide(groups, Nx.select(none, Nx.tensor(1, type: scales.type), scales))
  end

  # To the nearest integer, of two as near to the even one.
  defp rounded(x) do
    floor = Nx.floor(x)
    rest = Nx.subtract(x, floor)
    half = Nx.tensor(0.5, type: x.type)

    odd =
      Nx.not_equal(Nx.remainder(floor, Nx.tensor(2, type: x.type)), Nx.tensor(0, type: x.type))

    up = Nx.logical_or(Nx.greater(rest, half), Nx.logical_and(Nx.equal(rest, half), odd))
    Nx.add(floor, Nx.as_type(up, x.type))
  end

  defp grouped(x, %{group_size: size}),
    do: Nx.reshape(x, {div(Nx.size(x), size), size})

  defp packed(codes, x, bits),
    do: codes |> Nx.as_type(:u32) |> Nx.reshape(Nx.shape(x)) |> Bits.pack(bits)

  defp shared(scales, x) do
    groups = div(Nx.size(scales) * Block.last(Nx.shape(x)), Nx.size(x))
    Nx.reshape(scales, Block.with_last(Nx.shape(x), groups))
  end
end
