defmodule Emily.Golden.Movement do
  @moduledoc "Cases of types, shapes, and elements that move."

  alias Emily.Golden.{Case, Values, View}

  @chosen [infer: false]

  def cases do
    for type <- Case.types(),
        cases <- [
          conversions(type),
          shapes(type),
          broadcasts(type),
          transposes(type),
          slices(type),
          joins(type)
        ],
        one <- cases,
        do: one
  end

  # Numbers in an order that shows where each went, the special ones first.
  defp filled(type, shape) do
    numbers = Stream.cycle(Values.special(type))
    Nx.reshape(Values.vector(Enum.take(numbers, Tuple.product(shape)), type), shape)
  end

  defp conversions(from) do
    for to <- Case.types(),
        input <- [
          convertible(from),
          View.transposed(Values.random(from, {3, 4}, 0, 9)),
          Values.random(from, {}, 0, 9)
        ],
        one <- as_type(input, to),
        do: one
  end

  defp as_type(%Nx.Tensor{shape: {_}} = input, to),
    do: Case.record_elements("as_type", [input], &Nx.as_type(&1, to), @chosen)

  defp as_type(input, to), do: Case.record("as_type", [input], &Nx.as_type(&1, to), @chosen)

  defp convertible({kind, _} = from) when kind in [:f, :bf, :f8_e4m3fn],
    do:
      Values.vector(Values.special(from) ++ [300.0, -300.7, 40_000.5, -1.0e3, 2.99, -0.99], from)

  defp convertible(from), do: Values.vector(Values.special(from), from)

  defp shapes(type) do
    box = filled(type, {2, 3, 4})

    Enum.concat([
      for(
        input <- [box, View.transposed(box), View.strided(box)],
        shape <- [{24}, {4, 6}, {1, 2, 3, 4, 1}, {2, 3, 4}],
        one <- Case.record("reshape", [input], &Nx.reshape(&1, shape), @chosen),
        do: one
      ),
      Case.record("reshape", [filled(type, {1, 1})], &Nx.reshape(&1, {}), @chosen),
      Case.record("reshape", [filled(type, {})], &Nx.reshape(&1, {1, 1}), @chosen),
      for(
        shape <- [{1, 3, 1, 2, 1}, {1}, {1, 1}, {3}],
        one <- Case.record("squeeze", [filled(type, shape)], &Nx.squeeze/1, @chosen),
        do: one
      ),
      Case.record(
        "squeeze",
        [View.transposed(filled(type, {1, 3, 2}))],
        &Nx.squeeze(&1, axes: [0]),
        @chosen
      )
    ])
  end

  defp broadcasts(type) do
    for {from, to, axes} <- [
          {{}, {}, []},
          {{}, {2, 3}, []},
          {{3}, {2, 3}, [1]},
          {{2}, {2, 3}, [0]},
          {{2, 1}, {2, 4}, [0, 1]},
          {{1, 3}, {2, 3, 2}, [0, 1]},
          {{3, 2}, {2, 3, 1, 2, 2}, [1, 3]}
        ],
        one <-
          Case.record(
            %{broadcast: %{axes: axes}},
            [filled(type, from)],
            &Nx.broadcast(&1, to, axes: axes),
            @chosen
          ),
        do: one
  end

  defp transposes(type) do
    for shape <- [{5}, {2, 3}, {2, 3, 4}, {2, 1, 3, 1, 2}],
        box = filled(type, shape),
        input <- [box, View.transposed(box), View.strided(box)],
        axes <- [Nx.axes(box), Enum.reverse(Nx.axes(box)), tl(Nx.axes(box)) ++ [0]],
        {name, fun} <- [transpose: &Nx.transpose/2, reverse: &Nx.reverse/2],
        axes = if(name == :reverse, do: Enum.sort(Enum.take(axes, 2)), else: axes),
        one <- Case.record(%{name => %{axes: axes}}, [input], &fun.(&1, axes: axes)),
        do: one
  end

  defp slices(type) do
    box = filled(type, {4, 5, 3})

    for input <- [box, View.transposed(box), View.reversed(box)],
        {starts, lengths, strides} <- [
          {[0, 0, 0], [4, 5, 3], [1, 1, 1]},
          {[1, 2, 1], [2, 3, 1], [1, 1, 1]},
          {[0, 0, 0], [4, 5, 3], [2, 3, 2]},
          {[1, 1, 0], [3, 4, 3], [2, 5, 1]},
          {[3, 4, 2], [1, 1, 1], [1, 1, 1]}
        ],
        one <-
          Case.record(
            %{slice: %{starts: starts, lengths: lengths, strides: strides}},
            [input],
            &Nx.slice(&1, starts, lengths, strides: strides)
          ),
        do: one
  end

  defp joins(type) do
    alone =
      for {shapes, axis} <- [
            {[{3}, {2}], 0},
            {[{2, 3}, {1, 3}, {4, 3}], 0},
            {[{2, 1}, {2, 3}], 1},
            {[{1, 2, 1, 3, 2}, {1, 2, 4, 3, 2}], 2}
          ],
          inputs = Enum.map(shapes, &filled(type, &1)),
          inputs <- [inputs, List.update_at(inputs, 0, &View.transposed/1)],
          one <- concatenate(inputs, axis),
          do: one

    stacked =
      for {shape, count, axis} <- [{{}, 3, 0}, {{4}, 1, 0}, {{4}, 2, 1}, {{2, 3}, 3, 1}],
          inputs = for(at <- 1..count, do: Values.random(type, shape, 0, at + 3)),
          one <- stack(inputs, axis),
          do: one

    mixed =
      for other <- Case.types(),
          Case.together?(type, other),
          inputs = [
            Values.vector(Values.small(type), type),
            Values.vector(Values.small(other), other)
          ],
          last = inputs |> Enum.map(&Nx.size/1) |> Enum.min() |> min(5) |> Kernel.-(1),
          heads = Enum.map(inputs, & &1[0..last]),
          one <- concatenate(inputs, 0) ++ stack(heads, 1),
          do: one

    alone ++ stacked ++ mixed
  end

  defp concatenate(inputs, axis),
    do:
      Case.record(
        %{concatenate: %{axis: axis}},
        inputs,
        joined(inputs, &Nx.concatenate(&1, axis: axis))
      )

  defp stack(inputs, axis),
    do: Case.record(%{stack: %{axis: axis}}, inputs, joined(inputs, &Nx.stack(&1, axis: axis)))

  # A function of as many arguments as there are inputs.
  defp joined([_], fun), do: fn a -> fun.([a]) end
  defp joined([_, _], fun), do: fn a, b -> fun.([a, b]) end
  defp joined([_, _, _], fun), do: fn a, b, c -> fun.([a, b, c]) end
end
