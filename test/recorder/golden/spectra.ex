defmodule Emily.Golden.Spectra do
  @moduledoc """
  Cases of decompositions into eigenvalues and singular values.

  Their vectors are determined up to a sign or phase, which Nx leaves to its iterations. Emily makes
  the greatest element real and positive, and so does the recorder with what Nx gives; eigenvectors of
  real matrices with three rows Emily takes as Nx does, and they stay as they are. Values are far
  apart, as the vectors of near ones are hardly determined.
  """

  alias Emily.Golden.{Case, Values, View}

  def cases, do: eigh() ++ svd()

  defp eigh do
    inputs =
      for type <- Case.wide(),
          shape <- [{1, 1}, {2, 2}, {3, 3}, {4, 4}, {2, 3, 3}, {2, 1, 2, 2}],
          do: hermitian(type, shape)

    views = for type <- Case.wide(), do: View.strided(hermitian(type, {3, 3}))

    # Of equal eigenvalues. Which is the first is for rounding to say: with the digits of f32, and in
    # Nx's documentation, it is the same as Emily's.
    equal =
      for {kind, _} = type when kind == :s or type == {:f, 32} <- Case.wide(),
          do: Values.vector([[0, 1, 2], [1, 0, 2], [2, 2, 3]], type)

    # Whose vectors do not keep to the axes.
    three =
      for {kind, _} = type when kind not in [:u, :c] <- Case.wide(),
          rows <- [
            [[2, 1, 0], [1, -3, 4], [0, 4, 5]],
            [[0, 3, 1], [3, 0, 4], [1, 4, 0]],
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [[7, 0, 5], [0, -2, 0], [5, 0, 1]]
          ],
          do: Values.vector(rows, type)

    for input <- inputs ++ views ++ equal ++ three,
        one <- Case.record("eigh", [input], &eigh/1),
        promised?(one),
        do: one
  end

  defp eigh(input) do
    {values, vectors} = Nx.LinAlg.eigh(input)

    if Nx.axis_size(input, -1) == 3 and not match?({:c, _}, input.type),
      do: {values, vectors},
      else: {values, vectors |> Nx.multiply(phases(vectors)) |> Nx.as_type(vectors.type)}
  end

  # Its diagonal has values far apart and of both signs.
  defp hermitian(type, shape) do
    rank = tuple_size(shape)
    size = elem(shape, rank - 1)
    half = Values.random(type, shape, -1, 1)
    sum = half |> Nx.add(Nx.LinAlg.adjoint(half)) |> Nx.as_type(type)
    Nx.add(sum, Nx.as_type(Nx.multiply(Nx.eye(shape, type: type), spread(type, size)), type))
  end

  defp spread(type, size) do
    numbers = for index <- 1..size, do: 8 * index
    signed = if match?({:u, _}, type), do: numbers, else: alternating(numbers)
    Values.vector(signed, type)
  end

  defp alternating(numbers),
    do: Enum.map(numbers, &if(rem(div(&1, 8), 2) == 0, do: -&1, else: &1))

  defp svd do
    shapes = [{1, 1}, {2, 2}, {3, 3}, {3, 2}, {2, 3}, {4, 3}, {3, 4}, {2, 3, 2}, {2, 1, 3, 3}]

    inputs = for type <- Case.wide(), shape <- shapes, do: spaced(type, shape)
    views = for type <- Case.wide(), do: View.transposed(spaced(type, {3, 3}))

    for input <- inputs ++ views,
        full <- [true, false],
        one <-
          Case.record(
            %{svd: %{full_matrices: full}},
            [input],
            &svd(Nx.LinAlg.svd(&1, full_matrices?: full))
          ),
        promised?(one) and not (overflows?(one) and not full) and converged?(one),
        do: one
  end

  # Of matrices with one element Nx gives the vectors, and of complex ones the values, in other types
  # than it says.
  defp promised?(%{inputs: [input], out: out}) do
    type = Nx.Type.to_floating(input.tensor.type)
    Enum.all?(Tuple.to_list(out), &(&1.type == type))
  end

  # In f16 Nx's iterations may come to nothing.
  defp converged?(%{out: {_u, s, _vt}}), do: Nx.to_number(Nx.any(Nx.is_nan(s))) == 0

  # For thin factors Nx takes the eigenvalues of the product of the matrix with itself, which wraps.
  defp overflows?(%{inputs: [%{tensor: %{type: {kind, bits}}}]}),
    do: kind in [:u, :s] and bits == 8

  defp spaced(type, shape) do
    rank = tuple_size(shape)
    columns = elem(shape, rank - 1)
    eye = Nx.multiply(Nx.eye(shape, type: type), spread({:u, 8}, columns))
    Nx.as_type(Nx.add(Values.random(type, shape, -1, 1), eye), type)
  end

  defp svd({u, s, vt}) do
    rank = Nx.rank(u)
    {rows, columns} = {Nx.axis_size(u, -2), Nx.axis_size(vt, -1)}
    v = Nx.LinAlg.adjoint(vt)

    # The shorter side's vectors have the sign of their greatest element, the others follow.
    {u, v} =
      if rows < columns,
        do: turned(u, v),
        else: turned(v, u) |> then(fn {v, u} -> {u, v} end)

    axes = Enum.to_list(0..(rank - 3)//1) ++ [rank - 1, rank - 2]
    {u, s, Nx.transpose(v, axes: axes)}
  end

  defp turned(first, second) do
    signs = phases(first)
    shared = Nx.axis_size(signs, -1)

    beyond =
      if Nx.axis_size(second, -1) > shared,
        do: [
          signs,
          Nx.slice_along_axis(phases(second), shared, Nx.axis_size(second, -1) - shared, axis: -1)
        ],
        else: [signs]

    {Nx.multiply(first, signs), Nx.multiply(second, Nx.concatenate(beyond, axis: -1))}
  end

  # What makes the greatest element of each column real and positive.
  defp phases(vectors) do
    magnitude = Nx.abs(vectors)
    greatest = Nx.reduce_max(magnitude, axes: [-2], keep_axes: true)
    near = Nx.greater_equal(magnitude, Nx.multiply(greatest, 0.999))
    index = Nx.argmax(near, axis: -2, keep_axis: true)
    element = Nx.take_along_axis(vectors, index, axis: Nx.rank(vectors) - 2)

    case vectors.type do
      {:c, _} -> Nx.divide(Nx.conjugate(element), Nx.abs(element))
      type -> Nx.as_type(Nx.sign(element), type)
    end
  end
end
