defmodule Emily.Golden.Reducer do
  @moduledoc """
  Cases of reductions with functions. Nx lets one of `Nx.reduce/4` be called in any order, so they are
  associative once each element is what they make of it; and they are traced by Emily, as
  `Emily.Backend` traces them.
  """

  alias Emily.Golden.{Case, Values, View}
  alias Emily.Reducer

  @axes [nil, [0], [1], [2, 0], [0, 1, 2]]

  # Window, padding, strides, dilations.
  @windows [
    {{2, 3}, [{0, 0}, {0, 0}], [1, 1], [1, 1]},
    {{2, 2}, [{1, 0}, {-1, 2}], [2, 1], [1, 2]},
    {{4, 5}, [{1, 0}, {0, 0}], [1, 3], [1, 1]}
  ]

  def cases do
    whole =
      for type <- Case.types(),
          {fun, index} <- Enum.with_index(functions(type)),
          {input, axes, keep} <- inputs(type, index),
          one <- reduce(input, 1, axes, keep, fun),
          do: one

    windows =
      for type <- Case.types(),
          box = whole(type, {4, 5}),
          fun <- functions(type) ++ windowed(type),
          form <- @windows,
          input <- [box, View.transposed(box)],
          one <- window_reduce(input, 1, form, fun),
          do: one

    whole ++ windows
  end

  # Sums of f8 depend on the order, as each step is rounded to 3 or 4 bits.
  defp functions({kind, 8} = type) when kind in [:f, :f8_e4m3fn], do: ordered(type)

  defp functions(type) do
    [
      &Nx.add/2,
      &Nx.add(&2, Nx.multiply(&1, 2)),
      fn element, _acc -> element end,
      fn _element, acc -> acc end,
      fn _element, _acc -> 2 end
    ] ++ ordered(type)
  end

  # Of windows Nx does not ask that.
  defp windowed({kind, 8}) when kind in [:f, :f8_e4m3fn], do: []
  defp windowed({:c, _bits}), do: [&Nx.subtract/2]

  defp windowed({kind, _bits}) when kind in [:u, :s],
    do: [&Nx.subtract/2, &Nx.add(Nx.quotient(&2, 2), &1)]

  defp windowed(_float), do: [&Nx.subtract/2, &Nx.add(Nx.divide(&2, 2), &1)]

  defp ordered({:c, _bits}), do: []

  defp ordered({kind, _bits}) when kind in [:u, :s] do
    [&Nx.max/2, &Nx.bitwise_xor/2, &Nx.select(Nx.greater(Nx.bitwise_or(&1, 0), &2), &1, &2)]
  end

  defp ordered(_float), do: [&Nx.max/2, &Nx.select(Nx.less(&1, &2), &1, &2)]

  # All layouts for the first function, and one of each kind for the others.
  defp inputs(type, 0) do
    box = whole(type, {2, 3, 4})

    for(
      input <- [box, View.transposed(box), View.strided(box)],
      axes <- @axes,
      keep <- [false, true],
      do: {input, axes, keep}
    ) ++
      [
        {whole(type, {}), nil, false},
        {whole(type, {1, 1}), [1], false},
        {whole(type, {2, 1, 3, 1, 2}), [0, 2], true},
        {whole(type, {37}), nil, false}
      ]
  end

  defp inputs(type, _index) do
    [
      {whole(type, {2, 3, 4}), [1], false},
      {whole(type, {5}), nil, true}
    ]
  end

  # Whole numbers, whose sums are exact in whatever order.
  defp whole({:c, _bits}, shape),
    do: Nx.complex(whole({:f, 32}, shape), Nx.reverse(whole({:f, 32}, shape)))

  defp whole({:u, _bits} = type, shape), do: Values.random(type, shape)
  defp whole(type, shape), do: Nx.as_type(Values.random({:s, 8}, shape), type)

  defp reduce(input, acc, axes, keep, fun) do
    input = View.new(input)
    type = input.tensor.type
    {:ok, program} = Reducer.trace(fun, type)
    op = %{reduce: %{axes: axes, keep_axes: keep, fun: fields(program)}}
    opts = if axes, do: [axes: axes, keep_axes: keep], else: [keep_axes: keep]
    acc = Nx.tensor(acc, type: type)
    Case.record(op, [input, acc], &Nx.reduce(&1, &2, opts, fun), infer: false)
  end

  defp window_reduce(input, acc, {window, padding, strides, dilations}, fun) do
    input = View.new(input)
    type = input.tensor.type
    {:ok, program} = Reducer.trace(fun, type)

    op = %{
      window_reduce: %{
        window: Tuple.to_list(window),
        padding: Enum.map(padding, &Tuple.to_list/1),
        strides: strides,
        window_dilations: dilations,
        fun: fields(program)
      }
    }

    opts = [padding: padding, strides: strides, window_dilations: dilations]
    acc = Nx.tensor(acc, type: type)
    fun = &Nx.window_reduce(&1, &2, window, opts, fun)
    Case.record(op, [input, acc], fun, infer: false)
  end

  @doc "A program as the native core reads it from a file."
  def fields(program) do
    %{
      inputs: Enum.map(program.inputs, &type/1),
      instructions:
        for instruction <- program.instructions do
          %{
            op: operation(instruction.op),
            outs: Enum.map(instruction.outs, &type/1),
            inputs: instruction.inputs
          }
        end,
      outputs: program.outputs
    }
  end

  defp type({type, shape}), do: %{type: Nx.Type.to_string(type), shape: shape}

  defp operation({name, attributes}), do: %{name => attributes}
  defp operation(name), do: name
end
