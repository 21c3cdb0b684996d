defmodule Emily.Golden.Binary do
  @moduledoc "Cases of elementwise operations on two inputs."

  alias Emily.Golden.{Case, Shapes, Values}

  @arithmetic ~w(add subtract multiply divide remainder pow atan2 min max)a
  @bitwise ~w(bitwise_and bitwise_or bitwise_xor)a
  @shifts ~w(left_shift right_shift)a
  @comparisons ~w(equal not_equal greater less greater_equal less_equal)a
  @logical ~w(logical_and logical_or logical_xor)a
  @integer [:quotient | @bitwise] ++ @shifts

  def cases do
    for name <- @arithmetic ++ @integer ++ @comparisons ++ @logical,
        {left, right} <- Case.pairs(types(name)),
        one <- elements(name, left, right) ++ shapes(name, left, right),
        do: one
  end

  defp types(name) when name in @integer,
    do: for({k, _} = type when k in [:u, :s] <- Case.types(), do: type)

  defp types(_name), do: Case.types()

  defp elements(name, left, right) do
    pairs =
      for x <- left_numbers(name, left, right), y <- right_numbers(name, left, right), do: [x, y]

    [x, y] = Enum.zip_with(pairs, & &1)
    inputs = [Values.vector(x, left), Values.vector(y, right)]
    Case.record_elements(Atom.to_string(name), inputs, &apply(Nx, name, [&1, &2]))
  end

  # BinaryBackend computes the whole power before it drops the bits that overflow.
  defp left_numbers(:pow, {kind, _} = type, _right) when kind in [:f, :bf, :f8_e4m3fn, :c],
    do: Values.small(type)

  defp left_numbers(:pow, type, _right), do: Values.special(type)
  defp left_numbers(_name, type, other), do: numbers(type, other)

  defp right_numbers(:pow, {left, _}, {right, _} = type)
       when left in [:u, :s] and right in [:u, :s],
       do: Enum.filter(Values.small(type) ++ [31, 63], &(&1 < 65))

  defp right_numbers(:pow, _left, type),
    do: Enum.filter(Values.small(type), &(is_struct(&1) or abs(&1) < 8))

  defp right_numbers(name, _left, {kind, _}) when name in @shifts do
    distances = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 65, 127]
    if kind == :u, do: distances ++ [200], else: distances
  end

  defp right_numbers(_name, left, type), do: numbers(type, left)

  # All of the special numbers of two types would be many.
  defp numbers(type, type), do: Values.special(type)

  defp numbers({kind, _} = type, {other, _}) when kind in [:u, :s] and other in [:u, :s],
    do: Values.special(type)

  defp numbers({kind, _} = type, {other, _}) when kind == :c or other == :c,
    do: Values.small(type)

  defp numbers(type, _other), do: Values.small(type) ++ Values.non_finite(type)

  @mixed [{{:u, 8}, {:f, 32}}, {{:f, 16}, {:s, 64}}, {{:s, 8}, {:u, 32}}]

  defp shapes(name, left, right) when left == right or {left, right} in @mixed do
    low = if name == :pow, do: 1, else: -9

    for {a, b} <- Shapes.pairs(left, right, {low, 9}, {1, 3}),
        one <- Case.record(Atom.to_string(name), [a, b], &apply(Nx, name, [&1, &2])),
        do: one
  end

  defp shapes(_name, _left, _right), do: []
end
