defmodule Emily.Golden.Window do
  @moduledoc "Cases of windows that slide over a tensor."

  alias Emily.Golden.{Case, Exclusions, Values, View}

  # Shape, window, padding, strides, dilations. Windows of more than a few elements are computed in
  # other ways, which depend on whether they overlap.
  @forms [
    {{1, 1}, {1, 1}, [{0, 0}, {0, 0}], [1, 1], [1, 1]},
    {{5}, {1}, [{0, 0}], [2], [3]},
    {{7}, {3}, [{0, 0}], [1], [1]},
    {{7}, {3}, [{1, 2}], [2], [2]},
    {{7}, {2}, [{-2, 1}], [3], [1]},
    {{3}, {2}, [{2, -4}], [1], [1]},
    {{30}, {11}, [{3, 4}], [1], [1]},
    {{30}, {9}, [{0, 2}], [2], [3]},
    {{30}, {9}, [{1, 0}], [10], [1]},
    {{4, 6}, {2, 3}, [{0, 0}, {1, 1}], [2, 3], [1, 1]},
    {{3, 4}, {3, 4}, [{0, 0}, {0, 0}], [1, 1], [1, 1]},
    {{2, 20}, {2, 10}, [{1, 1}, {0, 0}], [1, 10], [1, 1]},
    {{2, 5, 6}, {1, 3, 2}, [{0, 0}, {1, 0}, {0, -1}], [1, 2, 1], [1, 1, 2]},
    {{2, 1, 3, 1, 2}, {1, 1, 2, 1, 2}, [{0, 0}, {1, 1}, {0, 0}, {0, 0}, {0, 1}], [1, 2, 1, 1, 1],
     [1, 1, 1, 1, 1]}
  ]

  # As above, for operations whose windows have no dilations.
  @scattered [
    {{1, 1}, {1, 1}, [{0, 0}, {0, 0}], [1, 1]},
    {{7}, {3}, [{0, 0}], [2]},
    {{7}, {3}, [{1, 1}], [1]},
    {{7}, {2}, [{-1, 2}], [2]},
    {{30}, {11}, [{2, 2}], [3]},
    {{4, 6}, {2, 3}, [{0, 0}, {0, 0}], [2, 3]},
    {{5, 5}, {3, 3}, [{0, 1}, {1, 0}], [1, 2]},
    {{2, 4, 5}, {1, 2, 3}, [{0, 0}, {0, -1}, {1, 1}], [1, 2, 1]},
    {{2, 1, 3, 1, 2}, {1, 1, 2, 1, 2}, [{0, 0}, {0, 0}, {1, 0}, {0, 0}, {0, 0}], [1, 1, 1, 1, 1]}
  ]

  def cases do
    aggregates =
      for name <- ~w(window_sum window_product window_max window_min)a,
          type <- Case.types(),
          one <- boxes(name, type) ++ rows(name, type),
          do: one

    scatters =
      for name <- ~w(window_scatter_max window_scatter_min)a,
          type <- Case.types(),
          not Exclusions.mispadded?(type),
          one <- scattered(name, type) ++ ties(name, type),
          do: one

    aggregates ++ scatters ++ mixed()
  end

  defp boxes(name, type) do
    {low, high} = range(name, type)
    box = Values.random(type, {4, 6}, low, high)
    form = {{4, 6}, {2, 3}, [{1, 0}, {0, 1}], [1, 2], [1, 2]}

    views =
      for input <- [View.transposed(box), View.strided(box), View.reversed(box)],
          one <- aggregate(name, input, form),
          do: one

    views ++
      for form <- @forms,
          one <- aggregate(name, Values.random(type, elem(form, 0), low, high), form),
          do: one
  end

  # Products stay within a float's range.
  defp range(:window_product, {kind, _}) when kind in [:f, :bf, :f8_e4m3fn, :c], do: {0.5, 2}
  defp range(_name, _type), do: {-3, 3}

  # Each window has what decides something among other numbers. See `Emily.Golden.Reduction` for what
  # BinaryBackend and devices have of their own.
  defp rows(name, {kind, _} = type)
       when kind in [:f, :bf, :f8_e4m3fn] and name in [:window_max, :window_min] do
    slide(name, type, Values.special(type)) ++
      slide(name, type, [0.0, -0.0, 0.0]) ++
      slide(name, type, [:neg_infinity, :neg_infinity, 1.0, :nan, 2.0, :infinity, :infinity])
  end

  defp rows(_name, {kind, _} = type) when kind in [:f, :bf, :f8_e4m3fn] do
    numbers = [1.0, 2.0, :infinity, 1.0, 2.0, :nan, 1.0, 2.0, :neg_infinity, :infinity, 1.0]
    for name <- ~w(window_sum window_product)a, one <- slide(name, type, numbers), do: one
  end

  defp rows(_name, {:c, _}), do: []
  defp rows(name, type), do: slide(name, type, Values.special(type))

  defp slide(name, type, numbers) do
    size = length(numbers)

    for {window, padding} <- [{2, {0, 0}}, {3, {1, 1}}, {9, {4, 4}}],
        form = {{size}, {window}, [padding], [1], [1]},
        one <- aggregate(name, Values.vector(numbers, type), form),
        do: one
  end

  defp aggregate(name, input, {_shape, window, padding, strides, dilations}) do
    op = %{
      name => %{
        window: Tuple.to_list(window),
        padding: Enum.map(padding, &Tuple.to_list/1),
        strides: strides,
        window_dilations: dilations
      }
    }

    opts = [padding: padding, strides: strides, window_dilations: dilations]
    Case.record(op, [input], &apply(Nx, name, [&1, window, opts]))
  end

  defp scattered(name, {kind, _} = type) do
    inits = if kind in [:u], do: [0, 3], else: [0, 3, -2]

    for {shape, _window, _padding, _strides} = form <- @scattered,
        init <- inits,
        one <-
          scatter(name, Values.random(type, shape, -4, 4), whole(type, form), init, type, form),
        do: one
  end

  # Numbers that are all the same, and those that are no number, which compare false.
  defp ties(name, type) do
    rows = [[1, 1, 1, 1, 1, 1, 1], [0, 2, 2, 1, 2, 2, 0] | not_numbers(type)]

    for row <- rows,
        {window, padding, stride} <- [{3, {0, 0}, 2}, {3, {1, 1}, 1}, {2, {0, 1}, 2}],
        form = {{7}, {window}, [padding], [stride]},
        one <- scatter(name, Values.vector(row, type), whole(type, form), 0, type, form),
        do: one
  end

  defp not_numbers({kind, _}) when kind in [:f, :bf, :f8_e4m3fn] do
    [
      [:nan, 1.0, 2.0, :nan, 1.0, 3.0, :nan],
      [:nan, :nan, :nan, :nan, :nan, :nan, :nan],
      [:neg_infinity, :nan, :neg_infinity, 1.0, :infinity, :infinity, 0.0]
    ]
  end

  defp not_numbers(_type), do: []

  # BinaryBackend adds as f32 and s32, whatever the types are, so each sum is one that both hold.
  defp whole(type, {shape, window, padding, strides}) do
    ones = List.duplicate(1, tuple_size(shape))
    {counts, _padding} = Nx.Shape.pool(shape, window, strides, padding, ones)
    Nx.as_type(Values.random({:s, 8}, counts, 1, 9), type)
  end

  # BinaryBackend pads integers with the bytes of a float, so none are padded with one here.
  defp mixed do
    form = {{4, 6}, {2, 3}, [{0, 0}, {1, 1}], [1, 2]}

    for name <- ~w(window_scatter_max window_scatter_min)a,
        {x, source, init} <- [
          {{:s, 32}, {:f, 32}, {:s, 32}},
          {{:f, 32}, {:u, 8}, {:s, 32}},
          {{:bf, 16}, {:u, 16}, {:f, 16}},
          {{:f, 16}, {:s, 64}, {:f, 64}}
        ],
        box = Values.random(x, {4, 6}, -4, 4),
        input <- [box, View.transposed(box), View.strided(box)],
        one <- scatter(name, input, View.transposed(whole(source, form)), 1, init, form),
        do: one
  end

  defp scatter(name, input, source, init, type, {_shape, window, padding, strides}) do
    op = %{
      name => %{
        window: Tuple.to_list(window),
        padding: Enum.map(padding, &Tuple.to_list/1),
        strides: strides
      }
    }

    opts = [padding: padding, strides: strides]
    inputs = [input, source, Nx.tensor(init, type: type)]
    Case.record(op, inputs, &apply(Nx, name, [&1, &2, &3, window, opts]))
  end
end
