defmodule Emily.Quantization.SmallFloat do
  @moduledoc false
  # The floats of 4 and 8 bits of the microscaled modes (OCP Microscaling Formats, 2023) as `:u32` codes, as MLX makes
  # and reads them. Its e4m3 has neither NaN nor infinities to read: code 0x7f is 480.

  @e2m1 [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]

  @doc "The greatest number of floats of `bits` bits."
  @spec greatest(4 | 8) :: float()
  def greatest(4), do: 6.0
  def greatest(8), do: 448.0

  @doc "The numbers of codes of `bits` bits, in `type`."
  @spec decode(Nx.Tensor.t(), 4 | 8, Nx.Type.t()) :: Nx.Tensor.t()
  def decode(codes, 4, type) do
    numbers = Nx.tensor(@e2m1 ++ Enum.map(@e2m1, &-/1), type: type)
    Nx.take(numbers, Nx.as_type(codes, :s32))
  end

  def decode(codes, 8, type), do: e4m3(codes, type)

  @doc "The codes of `bits` bits of the nearest numbers."
  @spec encode(Nx.Tensor.t(), 4 | 8) :: Nx.Tensor.t()
  def encode(x, 4), do: to_e2m1(x)
  def encode(x, 8), do: to_e4m3(x)

  # Read as f16, whose exponent has one bit more and another bias.
  defp e4m3(codes, type) do
    magnitude =
      codes
      |> Nx.bitwise_and(Nx.u32(0x7F))
      |> Nx.left_shift(Nx.u32(7))
      |> Nx.as_type(:u16)
      |> Nx.bitcast(:f16)
      |> Nx.as_type(:f32)
      |> Nx.multiply(Nx.f32(256))

    negative = Nx.greater_equal(codes, Nx.u32(0x80))
    negative |> Nx.select(Nx.negate(magnitude), magnitude) |> Nx.as_type(type)
  end

  # The nearest one, of two as near the smaller one; there is no -0, and what is no finite number is 0.
  defp to_e2m1(x) do
    magnitude = Nx.abs(x)

    code =
      [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
      |> Enum.map(&Nx.greater(magnitude, Nx.tensor(&1, type: x.type)))
      |> Enum.reduce(fn above, sum -> Nx.add(sum, above) end)
      |> Nx.as_type(:u32)

    negative = Nx.logical_and(Nx.less(x, Nx.tensor(0, type: x.type)), Nx.greater(code, Nx.u32(0)))
    code = Nx.select(negative, Nx.add(code, Nx.u32(8)), code)
    Nx.select(Nx.is_infinity(x), Nx.u32(0), code)
  end

  # Of two as near the even one; 448 for all beyond.
  defp to_e4m3(x) do
    bits = x |> Nx.as_type(:f32) |> Nx.bitcast(:u32)
    magnitude = Nx.bitwise_and(bits, Nx.u32(0x7FFFFFFF))
    sign = bits |> Nx.right_shift(Nx.u32(31)) |> Nx.left_shift(Nx.u32(7))

    # To the sum with 2 ** 14 the last bit is 2 ** -9, the least number.
    least = Nx.u32(0x46800000)

    below_normal =
      magnitude
      |> Nx.bitcast(:f32)
      |> Nx.add(Nx.f32(16_384))
      |> Nx.bitcast(:u32)
      |> Nx.max(least)
      |> Nx.subtract(least)

    odd = magnitude |> Nx.right_shift(Nx.u32(20)) |> Nx.bitwise_and(Nx.u32(1))

    normal =
      magnitude
      |> Nx.max(Nx.u32(0x3C000000))
      |> Nx.subtract(Nx.u32(0x3C000000))
      |> Nx.add(Nx.u32(0x7FFFF))
      |> Nx.add(odd)
      |> Nx.right_shift(Nx.u32(20))

    code = Nx.select(Nx.less(magnitude, Nx.u32(0x3C800000)), below_normal, normal)
    code = Nx.select(Nx.greater_equal(magnitude, Nx.u32(0x43E00000)), Nx.u32(0x7E), code)
    Nx.bitwise_or(code, sign)
  end

  @doc "The powers of two that codes of e8m0 stand for, in `type`."
  @spec powers(Nx.Tensor.t(), Nx.Type.t()) :: Nx.Tensor.t()
  def powers(codes, type) do
    codes = Nx.as_type(codes, :u32)
    bits = Nx.left_shift(codes, Nx.u32(23))
    # The least one is no normal number of f32.
    bits = Nx.select(Nx.equal(codes, Nx.u32(0)), Nx.u32(0x400000), bits)
    bits |> Nx.bitcast(:f32) |> Nx.as_type(type)
  end
end
