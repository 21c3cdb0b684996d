defmodule Emily.Golden.Indexing do
  @moduledoc "Cases of elements at indices, and of the greatest ones."

  alias Emily.Golden.{Case, Values, View}

  @integers for(kind <- [:u, :s], bits <- [8, 16, 32, 64], do: {kind, bits})

  def cases do
    for {type, at} <- Enum.with_index(Case.types()),
        index = Enum.at(@integers, rem(at, length(@integers))),
        cases <- [
          gathers(type, index),
          takes(type, index),
          takes_along_axis(type, index),
          updates(type, index),
          top_ks(type)
        ],
        one <- cases,
        do: one
  end

  # Numbers in an order that shows where each went, the special ones first.
  defp filled(type, shape) do
    numbers = Stream.cycle(Values.special(type))
    Nx.reshape(Values.vector(Enum.take(numbers, Tuple.product(shape)), type), shape)
  end

  # Rows of random indices into axes of these sizes.
  defp rows(sizes, outer, type) do
    columns = for size <- sizes, do: Values.random(type, outer, 0, size - 1)
    Nx.stack(columns, axis: tuple_size(outer))
  end

  # Indices that can be looked at, and such as are still to be computed.
  defp layouts(indices), do: [indices, View.computed(indices), View.transposed(indices)]

  # All index types on one type of tensor, one on the others.
  defp index_types({:f, 32}, _index), do: @integers
  defp index_types(_type, index), do: [index]

  # A tensor's shape, the indexed axes, and the shape of the indices but for their last axis.
  @forms [
    {{5}, [0], {3}},
    {{3, 4}, [0, 1], {4}},
    {{3, 4}, [0], {5}},
    {{3, 4}, [1], {2}},
    {{2, 3, 4}, [0, 2], {2, 2}},
    {{2, 3, 4}, [1, 2], {3}},
    {{2, 3, 4}, [1], {}},
    {{1, 1}, [1], {1, 1}},
    {{2, 1, 3, 1, 4}, [0, 2, 4], {3}},
    {{2, 3, 2, 2, 3}, [0, 1, 2, 3, 4], {2, 1}}
  ]

  defp gathers(type, index) do
    forms =
      for {shape, axes, outer} <- @forms,
          index <- index_types(type, index),
          indices <- layouts(rows(sizes(shape, axes), outer, index)),
          one <- gather(filled(type, shape), indices, axes),
          do: one

    box = filled(type, {3, 4, 5})

    views =
      for box <- [View.transposed(box), View.strided(box), View.reversed(box)],
          axes <- [[0], [1], [0, 2], [1, 2]],
          one <- gather(box, rows(sizes({3, 4, 5}, axes), {3}, index), axes),
          do: one

    forms ++ views
  end

  defp sizes(shape, axes), do: Enum.map(axes, &elem(shape, &1))

  defp gather(tensor, indices, axes) do
    Case.record(
      %{gather: %{axes: axes}},
      [tensor, indices],
      &Nx.gather(&1, &2, axes: axes)
    )
  end

  defp takes(type, index) do
    for {shape, outer} <- [{{5}, {}}, {{5}, {3}}, {{3, 4}, {2, 3}}, {{2, 1, 3}, {2}}],
        axis <- 0..(tuple_size(shape) - 1),
        tensor = filled(type, shape),
        tensor <- [tensor, View.transposed(tensor), View.strided(tensor)],
        index <- index_types(type, index),
        indices <- layouts(Values.random(index, outer, 0, elem(shape, axis) - 1)),
        one <-
          Case.record(%{take: %{axis: axis}}, [tensor, indices], &Nx.take(&1, &2, axis: axis)),
        do: one
  end

  defp takes_along_axis(type, index) do
    for {shape, count} <- [{{5}, 3}, {{3, 4}, 6}, {{3, 4}, 1}, {{2, 1, 3, 1, 2}, 2}],
        axis <- Enum.uniq([0, tuple_size(shape) - 1]),
        tensor = filled(type, shape),
        tensor <- [tensor, View.transposed(tensor), View.reversed(tensor)],
        index <- index_types(type, index),
        highest = elem(shape, axis) - 1,
        indices <- layouts(Values.random(index, put_elem(shape, axis, count), 0, highest)),
        one <-
          Case.record(
            %{take_along_axis: %{axis: axis}},
            [tensor, indices],
            &Nx.take_along_axis(&1, &2, axis: axis)
          ),
        do: one
  end

  # A tensor's shape, the indexed axes, and the shape of the updates: with more updates than places
  # there are, several meet. Updates smaller than an axis change the first of its elements.
  @updates [
    {{3}, [0], {7}},
    {{3, 2}, [0, 1], {9}},
    {{3, 4}, [0], {4, 4}},
    {{3, 4}, [1], {6, 3}},
    {{3, 4}, [0], {3, 2}},
    {{2, 3, 4}, [0, 2], {5, 3}},
    {{2, 3, 4}, [1], {4, 2, 4}},
    {{1, 1}, [0], {1, 1}},
    {{2, 1, 3, 1, 2}, [0, 2], {5, 1, 1, 2}}
  ]

  defp updates(type, index) do
    forms =
      for {shape, axes, updates} <- @updates,
          index <- index_types(type, index),
          indices <- layouts(rows(sizes(shape, axes), {elem(updates, 0)}, index)),
          one <- update(filled(type, shape), indices, Values.random(type, updates), axes),
          do: one

    views =
      for other <- Case.types(),
          indices = rows([3, 4], {6}, index),
          updates = Values.random(other, {6}),
          one <- update(View.transposed(Values.random(type, {3, 4})), indices, updates, [0, 1]),
          do: one

    updates = Values.random(type, {4, 3})
    indices = rows([3], {4}, index)

    layouts =
      for target <- [filled(type, {3, 3}), View.reversed(filled(type, {3, 3}))],
          updates <- [View.transposed(updates), View.strided(updates)],
          one <- update(target, indices, updates, [0]),
          do: one

    forms ++ views ++ layouts ++ overflows(type, index)
  end

  defp overflows(type, index) do
    special = Values.special(type)
    updates = Values.vector(special, type)
    indices = rows([2], {length(special)}, index)
    one_each = Nx.iota({length(special), 1}, type: index)

    update(filled(type, {2}), indices, updates, [0]) ++
      update(Nx.reverse(updates), one_each, updates, [0])
  end

  defp update(target, indices, updates, axes) do
    for {name, fun} <- [indexed_add: &Nx.indexed_add/4, indexed_put: &Nx.indexed_put/4],
        {target, updates} = within(name, target, updates),
        one <-
          Case.record(
            %{name => %{axes: axes}},
            [target, indices, updates],
            &fun.(&1, &2, &3, axes: axes)
          ),
        do: one
  end

  # Sums leave the range of a float but not that of BinaryBackend's f64, so there the numbers that are
  # added are small.
  defp within(:indexed_put, target, updates), do: {target, updates}

  defp within(:indexed_add, target, updates) do
    case type(target) do
      {kind, _} = type when kind in [:f, :bf, :f8_e4m3fn, :c] ->
        {small(target, type), small(updates, type)}

      _integer ->
        {target, updates}
    end
  end

  defp type(%View{tensor: tensor}), do: tensor.type
  defp type(tensor), do: tensor.type

  defp small(%View{} = view, _type), do: view
  defp small(tensor, _type), do: Values.random(tensor.type, tensor.shape, -3, 3)

  defp top_ks(type) do
    special = Values.special(type)
    box = Values.random(type, {3, 4, 5}, -3, 3)

    inputs =
      [
        Values.vector(special ++ Enum.reverse(special), type),
        Values.vector([hd(special)], type),
        Values.random(type, {2, 1, 3, 1, 7}, -2, 2)
      ] ++ [box, View.transposed(box), View.strided(box)]

    for input <- inputs, k <- [1, 3, 5], one <- top_k(input, k), do: one
  end

  defp top_k(input, k), do: Case.record(%{top_k: %{k: k}}, [input], &Nx.top_k(&1, k: k))
end
