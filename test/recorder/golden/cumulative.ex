defmodule Emily.Golden.Cumulative do
  @moduledoc "Cases of sums, products and extremes up to each element."

  alias Emily.Golden.{Case, Values, View}

  def cases do
    for name <- ~w(cumulative_sum cumulative_product cumulative_min cumulative_max)a,
        type <- Case.types(),
        {input, axes} <- vectors(name, type) ++ boxes(name, type),
        axis <- axes,
        reverse <- [false, true],
        one <- cumulative(name, input, axis, reverse),
        do: one
  end

  defp vectors(name, type),
    do: for(numbers <- rows(name, type), do: {Values.vector(numbers, type), [0]})

  # There are no infinities in this type, and its greatest number is no limit.
  defp rows(name, {:f8_e4m3fn, 8} = type) when name in [:cumulative_sum, :cumulative_product],
    do: [[1.5], [0.5, -0.0, 0.0, 2.0], [2.0, :nan, 1.0], Enum.take(Values.small(type), 7)]

  # Sums and products of the greatest numbers leave the range of a float.
  defp rows(name, {kind, _} = type)
       when kind in [:f, :bf] and name in [:cumulative_sum, :cumulative_product] do
    [
      [1.5],
      [0.5, -0.0, 0.0, 2.0],
      [1.0, :infinity, 2.0, -4.0],
      [2.0, :nan, 1.0],
      [:infinity, 1.0, :neg_infinity, 1.0],
      Enum.take(Values.small(type), 7)
    ]
  end

  # Parts that are not finite are multiplied one by one in BinaryBackend, unlike in C99 and MLX.
  defp rows(_name, {:c, _} = type), do: [Values.small(type), [Complex.new(1.5, -2.0)]]

  defp rows(_name, type) do
    special = Values.special(type)
    [special, Enum.reverse(special), [hd(special)]]
  end

  defp boxes(name, type) do
    box = exact(name, type, {2, 3, 4})
    deep = exact(name, type, {2, 1, 3, 1, 2})
    long = exact(name, type, {3, 35})

    [{deep, [0, 1, 4]}, {long, [1]}] ++
      for(input <- [box, View.transposed(box), View.strided(box)], do: {input, [0, 1, 2]})
  end

  # BinaryBackend rounds floats of 8 and 16 bits after each step, of which it takes others than MLX:
  # here is nothing to round.
  defp exact(name, {kind, bits} = type, shape)
       when kind in [:f, :bf, :f8_e4m3fn] and bits <= 16 do
    cond do
      name == :cumulative_product ->
        signs = Nx.subtract(Nx.multiply(Values.random({:s, 32}, shape, 0, 1), 2), 1)
        Nx.as_type(Nx.multiply(signs, powers(shape)), type)

      # -1, 0 and 1 in turn, so that f8 holds the sums.
      name == :cumulative_sum and bits == 8 ->
        Nx.as_type(Nx.subtract(Nx.remainder(Nx.iota(shape), 3), 1), type)

      true ->
        Nx.as_type(Values.random({:s, 32}, shape, -3, 3), type)
    end
  end

  defp exact(:cumulative_product, {kind, _} = type, shape) when kind in [:f, :c],
    do: Values.random(type, shape, 0.25, 1.5)

  defp exact(_name, type, shape), do: Values.random(type, shape, -3, 3)

  # A half, one and two in turn, so that products stay near 1.
  defp powers(shape), do: Nx.pow(2.0, Nx.subtract(Nx.remainder(Nx.iota(shape), 3), 1))

  defp cumulative(name, input, axis, reverse) do
    op = %{name => %{axis: axis, reverse: reverse}}
    Case.record(op, [input], &apply(Nx, name, [&1, [axis: axis, reverse: reverse]]))
  end
end
