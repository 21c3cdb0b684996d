defmodule Emily.Golden.Exclusions do
  @moduledoc """
  Elements whose recorded value would say nothing of what Nx means.

  Each clause states why. Nx's documentation decides; where it is silent, what EXLA and IEEE 754 have
  counts more than what follows from Elixir's arithmetic. Where BinaryBackend raises, there is no
  element to begin with: of the types of 2 and 4 bits it does not broadcast a scalar, accumulate, or
  count the leading zeros of anything but zero.
  """

  # Of these, parts of complex numbers that are not finite come out one by one.
  @by_parts ~w(as_type negate real imag conjugate is_nan is_infinity logical_not) ++
              ~w(logical_and logical_or logical_xor add subtract)

  @inverse ~w(acos asin atan acosh asinh atanh)
  @cut ~w(sqrt rsqrt cbrt log log1p)
  @periodic ~w(sin cos tan)
  @of_their_own ~w(min max quotient remainder right_shift pow divide atan2)

  @doc "Whether the operation of numbers of these types, which gave `out`, is left out."
  def excluded?(name, types, numbers, out) do
    Enum.any?(numbers, &unfit?(name, &1, out.type)) or
      excluded_row?(name, types, numbers, Nx.to_number(out)) or
      (Enum.any?(numbers, &unwrapped?(name, types, &1)) and name in @of_their_own)
  end

  # Complex numbers that are not finite: BinaryBackend takes them apart and multiplies or compares
  # atoms, unlike C99; Nx documents neither.
  defp unfit?(name, %Complex{re: re, im: im}, _type) when is_atom(re) or is_atom(im),
    do: name not in @by_parts

  # Integers that the result's float type does not hold: Nx merges the types first, while
  # BinaryBackend computes with integers of any size and rounds at last. Conversion is no merge.
  defp unfit?(name, number, {kind, _} = type)
       when is_integer(number) and kind in [:f, :bf, :f8_e4m3fn, :c],
       do: name != "as_type" and abs(number) > 2 ** digits(type)

  # Floats beyond 2^17: what a device keeps of a period's last digits is its own.
  defp unfit?(name, number, _type) when name in @periodic and is_float(number),
    do: abs(number) > 2 ** 17

  # Elixir orders atoms and maps above all numbers, so `:nan`, `:neg_infinity` and complex numbers
  # have the sign 1; Nx documents that of numbers.
  defp unfit?("sign", number, _type), do: number in [:nan, :neg_infinity] or is_struct(number)

  # Complex gives NaN for the limits, which are 1 and -1.
  defp unfit?("tanh", number, _type), do: number in [:infinity, :neg_infinity]

  # A real that is not finite gets an imaginary part of 0, every other one of -0.
  defp unfit?("conjugate", number, _type), do: is_atom(number)

  # Nx documents that a number which does not fit an integer type gives what the platform gives. Emily
  # wraps what fits 64 bits, as BinaryBackend does; beyond that there is nothing to hold it to.
  defp unfit?("as_type", number, {:u, 64}) when is_float(number),
    do: number >= 2.0 ** 64 or number < -(2.0 ** 63)

  defp unfit?("as_type", number, {kind, _}) when is_float(number) and kind in [:u, :s],
    do: number >= 2.0 ** 63 or number < -(2.0 ** 63)

  # BinaryBackend cuts off the bits that bf16 and e5m2 do not have, so that what rounds to infinity does
  # not get there.
  defp unfit?("as_type", number, {:bf, 16}) when is_float(number),
    do: abs(number) > 2.0 ** 127 * (2 - 2.0 ** -7)

  defp unfit?("as_type", number, {:f, 8}) when is_float(number), do: abs(number) > 57_344.0

  defp unfit?(_name, _number, _type), do: false

  # Of u64 with signed integers Nx's result is s64, into which numbers from 2^63 on wrap first, as no
  # type holds both; BinaryBackend wraps what it computed of them as they were. Sums, products and
  # bits agree, and comparisons Emily does exactly, so those are kept.
  defp unwrapped?(_name, types, number) do
    {:u, 64} in types and Enum.any?(types, &match?({:s, _}, &1)) and is_integer(number) and
      number >= 2 ** 63
  end

  # 1 / 0 of complex numbers is an infinity with an undefined part in C99, NaN in Complex.
  defp excluded_row?("divide", _types, [_, %Complex{} = divisor], _out), do: zero?(divisor)
  defp excluded_row?("divide", _types, [%Complex{}, divisor], _out), do: divisor == 0

  # An infinity by -0 has the sign of an infinity by 0 in Complex, which asks whether it is at least 0.
  defp excluded_row?("divide", _types, [x, divisor], _out)
       when x in [:infinity, :neg_infinity],
       do: divisor === -0.0

  # Complex leaves the principal branch, and takes no notice of a zero's sign, which decides on which
  # side of the cut a number lies.
  defp excluded_row?(name, _types, [%Complex{} = z], _out) when name in @cut, do: z.im == 0

  defp excluded_row?(name, _types, [%Complex{} = z], out) when name in @inverse,
    do: z.re == 0 or z.im == 0 or not principal?(name, out)

  # Complex gives pi whatever the sign of the infinitely smaller number.
  defp excluded_row?("atan2", _types, [y, :neg_infinity], _out) when is_number(y),
    do: y < 0 or y === -0.0

  defp excluded_row?(_name, _types, _numbers, _out), do: false

  defp principal?("acos", out), do: out.re >= 0
  defp principal?("acosh", out), do: out.re >= 0
  defp principal?(_name, _out), do: true

  defp zero?(%Complex{re: re, im: im}), do: re == 0 and im == 0

  @doc """
  Whether BinaryBackend reads the number of this type as another one: a subnormal number of e5m2 it takes
  for a normal one, so that 2^-16 becomes 1.25 * 2^-15.
  """
  def misread?(number, {:f, 8}), do: number != 0 and abs(number) < 2.0 ** -14
  def misread?(_number, _type), do: false

  @doc """
  Whether BinaryBackend puts the bits of another type around tensors of this one.

  Where it pads with a number of its own, the result gets the type of `Nx.Type.merge_number/2`, which
  is wider than these, while the tensor stays as it is.
  """
  def mispadded?({kind, bits}), do: kind == :f8_e4m3fn or (kind in [:u, :s] and bits < 8)

  defp digits({:f, 8}), do: 3
  defp digits({:f8_e4m3fn, 8}), do: 4
  defp digits({:f, 16}), do: 11
  defp digits({:bf, 16}), do: 8
  defp digits({:f, 64}), do: 53
  defp digits(_f32_or_c64), do: 24
end
