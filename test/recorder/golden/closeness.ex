defmodule Emily.Golden.Closeness do
  @moduledoc "Cases of `Nx.all_close/3`."

  alias Emily.Golden.{Case, Values, View}

  @defaults [equal_nan: false, rtol: 1.0e-5, atol: 1.0e-8]
  @integers [:u, :s]

  def cases do
    for {left, right} <- Case.pairs(),
        # Both together are numbers of 128 bits.
        not ({:c, 64} in [left, right] and {:f, 64} in [left, right]),
        {a, b} <- pairs(left, right),
        options <- options(left, right),
        one <- all_close(a, b, options),
        do: one
  end

  defp options(type, type) do
    [
      @defaults,
      [equal_nan: true, rtol: 1.0e-5, atol: 1.0e-8],
      [equal_nan: false, rtol: 0.0, atol: 0.5],
      [equal_nan: true, rtol: 0.25, atol: 0.0]
    ]
  end

  defp options(_left, _right), do: [@defaults, [equal_nan: false, rtol: 0.25, atol: 0.125]]

  # Of all numbers with themselves, so that one of a pair decides; of rows, which broadcast.
  defp pairs(type, type) do
    numbers = kept(Values.special(type))
    box = Values.random(type, {3, 4})

    scalars =
      for {x, at} <- Enum.with_index(numbers),
          y <- [x, Enum.at(numbers, at - 1)],
          do: {Values.vector(x, type), Values.vector(y, type)}

    scalars ++
      [
        {Values.vector(numbers, type), Values.vector(numbers, type)},
        {Values.vector(finite(type), type), Values.vector(finite(type), type)},
        {box, box},
        {View.transposed(box), View.strided(box)},
        {Values.random(type, {1, 4}), Values.random(type, {3, 1})},
        {Values.vector([1, 2, 3], type), Values.vector([1, 2, 4], type)},
        {Values.vector([[1], [1]], type), Values.vector([1, 1, 1], type)}
      ] ++ near(type)
  end

  defp pairs(left, right) do
    for {x, y} <- [{[1, 2, 3], [1, 2, 3]}, {[1, 2, 3], [1, 2, 4]}, {[100], [80]}, {[64], [80]}],
        do: {Values.vector(x, left), Values.vector(y, right)}
  end

  # Either side of the tolerance, which half floats are too coarse for.
  defp near({:f, bits} = type) when bits > 16 do
    for {x, y} <- [{1.0, 1.000_009}, {1.0, 1.000_011}, {0.0, 0.9e-8}, {0.0, 1.1e-8}, {-8.0, -9.0}],
        do: {Values.vector(x, type), Values.vector(y, type)}
  end

  defp near(_type), do: []

  # A complex number that is not finite BinaryBackend does not subtract as a number.
  defp kept(numbers),
    do:
      Enum.reject(numbers, &match?(%Complex{re: re, im: im} when is_atom(re) or is_atom(im), &1))

  defp finite({kind, _} = type) when kind in @integers, do: Values.special(type)
  defp finite(type), do: Values.finite(type)

  defp all_close(a, b, options),
    do: Case.record(%{all_close: Map.new(options)}, [a, b], &Nx.all_close(&1, &2, options))
end
