defmodule Emily.Golden.Parts do
  @moduledoc "Cases of padding, of bits, and of slices that start where tensors say."

  alias Emily.Golden.{Case, Values, View}

  @integers for(kind <- [:u, :s], bits <- [8, 16, 32, 64], do: {kind, bits})

  def cases do
    for type <- Case.types(),
        cases <- [pads(type), bitcasts(type), slices(type), put_slices(type)],
        one <- cases,
        do: one
  end

  # Numbers in an order that shows where each went, the special ones first.
  defp filled(type, shape) do
    numbers = Stream.cycle(Values.special(type))
    Nx.reshape(Values.vector(Enum.take(numbers, Tuple.product(shape)), type), shape)
  end

  defp pads(type) do
    vectors =
      for config <- [
            {0, 0, 0},
            {1, 2, 0},
            {-1, 2, 0},
            {2, -1, 1},
            {-2, -1, 0},
            {0, 0, 3},
            {-2, -3, 2},
            {-5, 0, 0},
            {3, -2, 0}
          ],
          do: {filled(type, {5}), [config]}

    boxes =
      for {shape, padding} <- [
            {{}, []},
            {{1}, [{1, 1, 4}]},
            {{2, 3}, [{1, 0, 0}, {0, 2, 1}]},
            {{2, 3}, [{-1, 1, 0}, {2, -3, 1}]},
            {{2, 1, 3, 1, 2}, [{0, 1, 0}, {1, 0, 2}, {-1, 0, 1}, {0, 0, 0}, {0, 0, 2}]}
          ],
          do: {filled(type, shape), padding}

    box = filled(type, {3, 4})

    views =
      for view <- [View.transposed(box), View.strided(box), View.reversed(box)],
          do: {view, [{1, -1, 1}, {-1, 2, 0}]}

    value = List.last(Values.special(type))

    same =
      for {input, padding} <- vectors ++ boxes ++ views,
          one <- pad(input, Values.vector(value, type), padding),
          do: one

    # BinaryBackend does not give the tensor itself the type that both have together.
    mixed =
      for other <- Case.types(),
          other != type and Nx.Type.merge(type, other) == type,
          one <- pad(filled(type, {3}), Values.vector(3, other), [{1, 1, 1}]),
          do: one

    same ++ mixed
  end

  defp pad(input, value, padding) do
    op = %{pad: %{padding: Enum.map(padding, &Tuple.to_list/1)}}
    Case.record(op, [input, value], &Nx.pad(&1, &2, padding))
  end

  defp bitcasts({_kind, bits} = from) do
    box = filled(from, {3, 4})

    for {_, ^bits} = to <- Case.types(),
        input <- [filled(from, {15}), filled(from, {}), box, View.transposed(box)],
        one <- Case.record("bitcast", [input], &Nx.bitcast(&1, to), infer: false),
        do: one
  end

  # Starts within and beyond either end, as integers that are there and as ones still to be computed.
  defp starts(starts, type) do
    scalars = Enum.map(starts, &Values.vector(&1, type))
    [first | rest] = scalars
    [scalars, Enum.map(scalars, &View.computed/1), [View.computed(first) | rest]]
  end

  defp slices(type) do
    box = filled(type, {4, 5, 3})
    last = List.last(Values.special({:u, 64}))

    plain =
      for {start, lengths, strides} <- [
            {[0, 0, 0], [4, 5, 3], [1, 1, 1]},
            {[1, 2, 1], [2, 3, 1], [1, 1, 1]},
            {[1, 3, 9], [2, 4, 3], [1, 3, 2]},
            {[3, 4, 2], [1, 1, 1], [1, 1, 5]}
          ],
          input <- [box, View.transposed(box), View.reversed(box)],
          inputs <- starts(start, {:s, 32}),
          one <- slice(input, inputs, lengths, strides),
          do: one

    typed =
      for {kind, _} = start_type <- @integers,
          start <- if(kind == :u, do: [2, 200], else: [2, -1, -100]),
          inputs <- starts([start], start_type),
          one <- slice(filled(type, {6}), inputs, [3], [1]),
          do: one

    wide =
      for inputs <- starts([last, 1], {:u, 64}),
          one <- slice(filled(type, {3, 4}), inputs, [2, 2], [1, 1]),
          do: one

    # Which types starts have, and which the tensor has, are nothing to each other.
    plain ++ if(type in [{:u, 8}, {:f, 32}], do: typed ++ wide, else: [])
  end

  defp slice(input, starts, lengths, strides) do
    op = %{dynamic_slice: %{lengths: lengths, strides: strides}}

    Case.record_list(op, [input | starts], fn [x | starts] ->
      Nx.slice(x, starts, lengths, strides: strides)
    end)
  end

  defp put_slices(type) do
    alike =
      for {shape, part, start} <- [
            {{}, {}, []},
            {{5}, {2}, [1]},
            {{5}, {2}, [7]},
            {{3, 4}, {3, 4}, [0, 0]},
            {{3, 4}, {2, 1}, [1, 3]},
            {{2, 1, 3, 1, 2}, {1, 1, 2, 1, 1}, [1, 0, 2, 0, 1]}
          ],
          one <- put(filled(type, shape), Values.random(type, part), start),
          do: one

    mixed =
      for other <- Case.types(),
          other != type,
          one <- put(Values.random(type, {4}), Values.random(other, {2}), [1]),
          do: one

    box = filled(type, {3, 4})
    part = Values.random(type, {2, 2})

    views =
      for {box, part} <- [
            {View.transposed(box), part},
            {View.strided(box), View.transposed(part)},
            {box, View.reversed(part)}
          ],
          one <- put(box, part, [1, 2]),
          do: one

    alike ++ mixed ++ views ++ dynamic(box, part)
  end

  defp put(input, slice, []),
    do: Case.record(%{put_slice: %{starts: []}}, [input, slice], &Nx.put_slice(&1, [], &2))

  defp put(input, slice, start) do
    fixed =
      Case.record(%{put_slice: %{starts: start}}, [input, slice], &Nx.put_slice(&1, start, &2))

    fixed ++ for starts <- starts(start, {:s, 64}), one <- put_at(input, slice, starts), do: one
  end

  defp dynamic(box, part) do
    for {kind, _} = type <- @integers,
        start <- if(kind == :u, do: [1, 0], else: [-2, 1]),
        starts <- starts([start, 100], type),
        one <- put_at(box, part, starts),
        do: one
  end

  defp put_at(input, slice, starts) do
    Case.record_list("dynamic_put_slice", [input, slice | starts], fn [x, slice | starts] ->
      Nx.put_slice(x, starts, slice)
    end)
  end
end
