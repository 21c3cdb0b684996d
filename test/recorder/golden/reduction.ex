defmodule Emily.Golden.Reduction do
  @moduledoc "Cases of reductions along axes."

  alias Emily.Golden.{Case, Values, View}

  @axes [nil, [0], [1], [2], [0, 2], [1, 2], [0, 1, 2]]

  def cases do
    reductions =
      for name <- ~w(sum product reduce_max reduce_min all any)a,
          type <- Case.types(),
          one <- special(name, type) ++ boxes(name, type),
          do: one

    indices =
      for name <- ~w(argmax argmin)a,
          type <- Case.types(),
          tie_break <- [:low, :high],
          one <- extremes(name, type, tie_break),
          do: one

    reductions ++ indices
  end

  # All the special numbers at once, and each kind of row that decides something: NaN or an infinity
  # among numbers, only zeros, and a row of one.
  defp special(name, type) do
    for numbers <- rows(name, type),
        one <- reduce(name, Values.vector(numbers, type), nil, false),
        do: one
  end

  # BinaryBackend compares a complex number with 0 as terms, which are never equal; Nx documents
  # "not zero", so a complex row of zeros is left out.
  defp rows(name, {:c, _} = type) when name in [:all, :any],
    do:
      Enum.map([Values.small(type), Values.finite(type)], fn row ->
        Enum.reject(row, &(&1 == Complex.new(0.0, 0.0) or zero?(&1)))
      end)

  # Parts that are not finite are multiplied one by one in BinaryBackend, unlike in C99 and MLX.
  defp rows(_name, {:c, _} = type), do: [Values.small(type), [Complex.new(1.5, -2.0)]]

  # The sum and the product of the greatest numbers leave the range of a float but not that of
  # BinaryBackend's f64.
  defp rows(name, {kind, _} = type)
       when kind in [:f, :bf, :f8_e4m3fn] and name in [:sum, :product] do
    [
      Values.small(type),
      [1.5],
      [0.0, -0.0],
      [:infinity, 1.0],
      [:neg_infinity, 2.0],
      [:nan, 1.0],
      [:infinity, :neg_infinity]
    ]
  end

  defp rows(_name, {kind, _} = type) when kind in [:f, :bf, :f8_e4m3fn] do
    [
      Values.finite(type),
      Values.special(type),
      [0.0, -0.0],
      [:nan],
      [:nan, 1.0],
      [1.0, :infinity],
      [:neg_infinity, 1.0],
      [:infinity, :nan, :neg_infinity]
    ]
  end

  defp rows(_name, type),
    do: [Values.special(type), Enum.reverse(Values.special(type)), [0, 0], [3]]

  defp zero?(%Complex{re: re, im: im}), do: re == 0 and im == 0

  defp boxes(name, type) do
    box = Values.random(type, {2, 3, 4}, low(name, type), 3)

    layouts =
      for input <- [box, View.transposed(box), View.strided(box)],
          axes <- @axes,
          keep <- [false, true],
          one <- reduce(name, input, axes, keep),
          do: one

    long = Values.random(type, {3, 70}, low(name, type), if(name == :product, do: 1, else: 3))
    deep = Values.random(type, {2, 1, 3, 1, 2}, low(name, type), 3)
    scalar = Values.random(type, {}, low(name, type), 3)

    layouts ++
      reduce(name, long, [1], false) ++
      reduce(name, long, nil, false) ++
      reduce(name, deep, [0, 3, 4], false) ++
      reduce(name, deep, [1, 2], true) ++
      reduce(name, scalar, nil, false)
  end

  # A complex zero is never false in BinaryBackend; see `rows/2`.
  defp low(name, {:c, _}) when name in [:all, :any], do: 1
  defp low(:product, {kind, _}) when kind in [:f, :bf, :f8_e4m3fn, :c], do: 0.25
  defp low(_name, _type), do: -3

  defp reduce(name, input, axes, keep) do
    op = %{name => %{axes: axes, keep_axes: keep}}
    opts = if axes, do: [axes: axes, keep_axes: keep], else: [keep_axes: keep]
    Case.record(op, [input], &apply(Nx, name, [&1, opts]))
  end

  defp extremes(name, type, tie_break) do
    box = Values.random(type, {3, 4, 2}, -2, 2)

    boxes =
      for input <- [box, View.transposed(box), View.strided(box)],
          axis <- [nil, 0, 1, 2],
          keep <- [false, true],
          one <- extreme(name, input, axis, keep, tie_break),
          do: one

    rows =
      for numbers <- rows(name, type) ++ [nans(type)],
          one <- extreme(name, Values.vector(numbers, type), 0, false, tie_break),
          do: one

    wide = fn x -> apply(Nx, name, [x, [axis: 1, tie_break: tie_break, type: {:u, 64}]]) end
    op = %{name => %{axis: 1, keep_axis: false, tie_break: tie_break}}

    boxes ++
      rows ++
      Case.record(op, [box], wide, infer: false) ++
      extreme(name, Values.random(type, {}), nil, false, tie_break)
  end

  defp nans({kind, _}) when kind in [:f, :bf, :f8_e4m3fn],
    do: [1.0, :nan, 2.0, :nan, :infinity, 0.0]

  defp nans(_type), do: [1, 0, 1, 0, 1]

  # `keep_axis` without an axis keeps nothing in Nx but the shape {1, …} of what it flattened.
  defp extreme(name, input, axis, keep, tie_break) do
    op = %{name => %{axis: axis, keep_axis: keep, tie_break: tie_break}}
    opts = [axis: axis, keep_axis: keep, tie_break: tie_break]
    Case.record(op, [input], &apply(Nx, name, [&1, opts]))
  end
end
