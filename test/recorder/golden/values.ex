defmodule Emily.Golden.Values do
  @moduledoc "Numbers worth trying in each type, as vectors, and numbers to fill shapes with."

  alias Emily.Golden.Exclusions

  @doc "A vector of `type`."
  def vector(list, type), do: Nx.tensor(list, type: type)

  @doc "Numbers from -1 to 1 that are the same each time, and exact in f32, in this shape."
  def pattern(shape, seed) do
    numbers =
      for at <- 1..Tuple.product(shape), do: rem(at * 7919 + seed * 104_729, 257) / 128 - 1

    numbers |> Nx.tensor(type: :f32) |> Nx.reshape(shape)
  end

  @doc "The extremes, zeros, and what is not finite."
  def special({:u, bits} = type) do
    max = 2 ** bits - 1
    held([0, 1, 2, 3, 7, 10, 100, div(max, 2), div(max, 2) + 1, max - 1, max], type)
  end

  def special({:s, bits} = type) do
    max = 2 ** (bits - 1) - 1
    held([0, 1, 2, 3, 7, 100, max - 1, max, -1, -2, -3, -7, -100, -max, -max - 1], type)
  end

  def special({:c, _bits} = type), do: finite(type) ++ non_finite(type)
  def special(type), do: finite(type) ++ non_finite(type)

  @doc "As `special/1`, without what is not finite."
  def finite({:c, _bits}) do
    parts = [0.0, -0.0, 1.0, -1.0, 0.5, -2.25, 3.0]
    for re <- parts, im <- parts, do: Complex.new(re, im)
  end

  def finite({kind, _bits} = type) when kind in [:f, :bf, :f8_e4m3fn] do
    {max, normal, subnormal} = extremes(type)

    numbers =
      [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 0.25, 3.140625, -7.75, 10.0, 100.0] ++
        [max, -max, normal, -normal, subnormal, -subnormal]

    Enum.reject(numbers, &Exclusions.misread?(&1, type))
  end

  def finite(type), do: special(type)

  @doc "What is not finite; nothing for integers."
  def non_finite({:c, _bits}) do
    for {re, im} <- [infinity: 1.0, neg_infinity: -2.0, nan: 1.0],
        number <- [Complex.new(re, im), Complex.new(im, re)],
        do: number
  end

  def non_finite({:f8_e4m3fn, 8}), do: [:nan]

  def non_finite({kind, _bits}) when kind in [:f, :bf, :f8_e4m3fn],
    do: [:infinity, :neg_infinity, :nan]

  def non_finite(_integer), do: []

  @doc "Small numbers that every type of the same kind or a wider one holds exactly."
  def small({:u, _bits} = type), do: held([0, 1, 2, 3, 5, 7, 10, 64, 100], type)
  def small({:s, _bits} = type), do: held([0, 1, 2, 3, 7, 100, -1, -2, -5, -64], type)
  def small({:c, _bits}), do: for({re, im} <- small_parts(), do: Complex.new(re, im))
  def small(_float), do: [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.5, 3.25, -7.75, 100.0]

  # The types of 2 and 4 bits are too narrow for some numbers, and others become the same ones there.
  defp held(numbers, {_kind, bits}) when bits >= 8, do: numbers

  defp held(numbers, {:u, bits}),
    do: numbers |> Enum.filter(&(&1 in 0..(2 ** bits - 1))) |> Enum.uniq()

  defp held(numbers, {:s, bits}) do
    half = 2 ** (bits - 1)
    numbers |> Enum.filter(&(&1 in -half..(half - 1))) |> Enum.uniq()
  end

  defp small_parts do
    [
      {0.0, 0.0},
      {1.0, 0.0},
      {0.0, 1.0},
      {-1.0, 0.5},
      {1.5, -2.0},
      {-2.5, -0.25},
      {3.0, 4.0},
      {0.25, 0.75}
    ]
  end

  @doc "`shape` filled with random numbers from `low` to `high`; always the same for equal arguments."
  def random(type, shape, low \\ -4, high \\ 4) do
    :rand.seed(:exsss, :erlang.phash2({type, shape, low, high}))
    count = Tuple.product(shape)
    Nx.reshape(vector(for(_ <- 1..count, do: number(type, low, high)), type), shape)
  end

  defp number({:u, _bits} = type, low, high) when low < 0, do: number(type, 0, high)
  defp number({:c, _bits}, low, high), do: Complex.new(float(low, high), float(low, high))
  defp number({kind, _bits}, low, high) when kind in [:u, :s], do: floor(float(low, high + 1))
  defp number(_float, low, high), do: float(low, high)

  defp float(low, high), do: low + (high - low) * :rand.uniform()

  # The greatest number, and the least above zero that is normal and that is not.
  defp extremes({:f, 8}), do: {57_344.0, 2.0 ** -14, 2.0 ** -16}
  defp extremes({:f8_e4m3fn, 8}), do: {448.0, 2.0 ** -6, 2.0 ** -9}
  defp extremes({:f, 16}), do: {65_504.0, 2.0 ** -14, 2.0 ** -24}
  defp extremes({:bf, 16}), do: {2.0 ** 127 * (2 - 2.0 ** -7), 2.0 ** -126, 2.0 ** -133}
  defp extremes({:f, 32}), do: {2.0 ** 127 * (2 - 2.0 ** -23), 2.0 ** -126, 2.0 ** -149}
  defp extremes({:f, 64}), do: {1.7976931348623157e308, 2.2250738585072014e-308, 5.0e-324}
end
