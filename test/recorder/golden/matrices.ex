defmodule Emily.Golden.Matrices do
  @moduledoc """
  Cases of systems and factorizations of matrices.

  Numbers are such that every pivot is clear: where the elements of a column are equal but for
  rounding, which one is the greatest says nothing of what Nx means. `Emily.Golden.Spectra` has the
  decompositions into eigenvalues and singular values.
  """

  alias Emily.Golden.{Case, Values, View}

  # More rows than Emily takes step by step.
  @large 33
  @large_types [f: 32, c: 64]

  def cases do
    triangular_solve() ++ solve() ++ cholesky() ++ determinant() ++ qr() ++ lu()
  end

  @doc "A matrix or a batch of them, whose diagonal outweighs the rest."
  def regular(type, shape) do
    size = elem(shape, tuple_size(shape) - 1)
    heavy = for index <- 1..size, do: sign(type) * (2 + 2 * size + rem(3 * index, 5))
    Nx.select(Nx.eye(shape), Values.vector(heavy, type), Values.random(type, shape, -2, 2))
  end

  defp sign({:u, _}), do: 1
  defp sign(_type), do: -1

  defp triangular_solve do
    forms =
      for lower <- [true, false],
          left_side <- [true, false],
          transform_a <- [:none, :transpose, :conjugate],
          do: %{lower: lower, left_side: left_side, transform_a: transform_a}

    plain = hd(forms)

    alike =
      for type <- Case.wide(), form <- forms, one <- triangular(type, type, form), do: one

    mixed =
      for a <- Case.wide(),
          b <- Case.wide(),
          a != b,
          one <- triangular_solve(regular(a, {2, 2}), Values.random(b, {2}), plain),
          do: one

    large =
      for type <- @large_types,
          form <- [plain, %{lower: false, left_side: false, transform_a: :transpose}],
          a = regular(type, {@large, @large}),
          one <- triangular_solve(a, Values.random(type, {@large}), form),
          do: one

    alike ++ mixed ++ large ++ triangular_views() ++ triangular_specials()
  end

  defp triangular(a_type, b_type, form) do
    a = &regular(a_type, &1)
    b = &Values.random(b_type, &1)
    matrix = if form.left_side, do: &{&1, &2}, else: &{&2, &1}

    for {a, b} <- [
          {a.({1, 1}), b.({1})},
          {a.({3, 3}), b.({3})},
          {a.({3, 3}), b.(matrix.(3, 2))},
          {a.({2, 3, 3}), b.({2, 3})},
          {a.({2, 1, 2, 2}), b.(Tuple.insert_at(Tuple.insert_at(matrix.(2, 3), 0, 1), 0, 2))}
        ],
        one <- triangular_solve(a, b, form),
        do: one
  end

  defp triangular_views do
    form = %{lower: true, left_side: true, transform_a: :none}

    for type <- Case.wide(),
        a = regular(type, {2, 3, 3}),
        b = Values.random(type, {2, 3, 2}),
        {a, b} <- [{View.strided(a), View.reversed(b)}, {View.reversed(a), View.strided(b)}],
        one <- triangular_solve(a, b, form),
        do: one
  end

  defp triangular_specials do
    form = %{lower: true, left_side: true, transform_a: :none}

    for {kind, _} = type when kind in [:f, :bf] <- Case.wide(),
        number <- Values.special(type),
        number != 0,
        {a, b} <- [
          {[[2, 0], [0.5, 4]], [number, 1]},
          {[[2, 0], [0.5, 4]], [1, number]},
          {[[number, 0], [0.5, 4]], [1, 0.25]}
        ],
        one <- triangular_solve(Values.vector(a, type), Values.vector(b, type), form),
        do: one
  end

  defp triangular_solve(a, b, form),
    do:
      Case.record(
        %{triangular_solve: form},
        [a, b],
        &Nx.LinAlg.triangular_solve(&1, &2, Map.to_list(form))
      )

  defp solve do
    shapes = [
      {{1, 1}, {1}},
      {{3, 3}, {3}},
      {{4, 4}, {4, 2}},
      {{2, 3, 3}, {2, 3}},
      {{2, 1, 3, 3}, {2, 1, 3, 2}}
    ]

    alike =
      for type <- Case.wide(), {a, b} <- shapes, do: {mixed(type, a), Values.random(type, b)}

    different =
      for a <- Case.wide(),
          b <- Case.wide(),
          a != b,
          do: {mixed(a, {2, 2}), Values.random(b, {2})}

    large =
      for type <- @large_types,
          do: {mixed(type, {@large, @large}), Values.random(type, {@large})}

    views =
      for type <- Case.wide(),
          a = mixed(type, {3, 3}),
          b = Values.random(type, {3, 2}),
          do: {View.transposed(a), View.strided(b)}

    for {a, b} <- alike ++ different ++ large ++ views,
        one <- Case.record("solve", [a, b], &Nx.LinAlg.solve/2),
        promised?(one),
        do: one
  end

  # Nx factorizes a matrix in its own type, or f32, whatever the type of the right side is and that
  # of the result is to be.
  defp promised?(%{inputs: [a, b], out: out}) do
    factors = Nx.Type.to_floating(a.tensor.type)
    merged = Nx.Type.to_floating(Nx.Type.merge(a.tensor.type, b.tensor.type))
    out.type == merged and digits(factors) >= digits(merged)
  end

  defp digits({_kind, 16}), do: 11
  defp digits({:f, 64}), do: 53
  defp digits(_f32_or_c64), do: 24

  # Regular, with rows in an order that takes exchanging.
  defp mixed(type, shape) do
    Nx.reverse(regular(type, shape), axes: [tuple_size(shape) - 2])
  end

  defp cholesky do
    inputs =
      for type <- Case.wide(), shape <- [{1, 1}, {2, 2}, {4, 4}, {2, 3, 3}, {2, 1, 2, 2}] do
        definite(type, shape)
      end

    large = for type <- @large_types, do: definite(type, {@large, @large})
    views = for type <- Case.wide(), do: View.strided(definite(type, {3, 3}))

    semidefinite =
      for type <- Case.wide(), rows <- semidefinite(type), do: Nx.tensor(rows, type: type)

    for input <- inputs ++ large ++ views ++ semidefinite,
        one <- Case.record("cholesky", [input], &Nx.LinAlg.cholesky/1),
        do: one
  end

  # Such as the covariances of what depends on each other, or does not vary. What Nx adds to a divisor
  # is nothing in f16, where it divides by zero.
  defp semidefinite(type) do
    unvaried = [[[0, 0], [0, 0]], [[4, 0, 2], [0, 0, 0], [2, 0, 2]]]
    dependent = [[[25, 25], [25, 25]], [[[1, 1], [1, 1]], [[4, 0], [0, 9]]]]
    if type == {:f, 16}, do: dependent, else: dependent ++ unvaried
  end

  # Hermitian, with a positive diagonal that outweighs the rest.
  defp definite(type, shape) do
    rank = tuple_size(shape)
    size = elem(shape, rank - 1)
    half = Values.random(type, shape, -2, 2)
    sum = Nx.add(half, Nx.LinAlg.adjoint(half))
    Nx.as_type(Nx.add(sum, Nx.multiply(Nx.eye(shape, type: type), 4 * size + 2)), type)
  end

  defp determinant do
    shapes = [{1, 1}, {2, 2}, {3, 3}, {4, 4}, {5, 5}, {2, 2, 2}, {2, 3, 3}, {2, 1, 3, 4, 4}]
    inputs = for type <- Case.wide(), shape <- shapes, do: mixed(type, shape)
    small = for type <- Case.wide(), size <- [2, 3], do: Values.random(type, {3, size, size})

    singular =
      for type <- Case.wide(),
          size <- 1..5,
          do: Values.vector(rows(size, fn _, _ -> 1 end), type)

    wrapping =
      for {kind, _} = type when kind in [:u, :s] <- Case.wide(),
          size <- [2, 3],
          numbers = Values.special(type),
          do:
            Values.vector(
              rows(size, &Enum.at(numbers, rem(size * &1 + 2 * &2, length(numbers)))),
              type
            )

    views = for type <- Case.wide(), do: View.transposed(mixed(type, {4, 4}))

    for input <- inputs ++ small ++ singular ++ wrapping ++ views,
        one <- Case.record("determinant", [input], &Nx.LinAlg.determinant/1),
        do: one
  end

  defp rows(size, fun), do: for(row <- 1..size, do: for(column <- 1..size, do: fun.(row, column)))

  defp qr do
    shapes = [{1, 1}, {1, 3}, {3, 1}, {3, 3}, {4, 2}, {2, 4}, {2, 4, 3}, {2, 1, 3, 3}]

    inputs =
      for type <- Case.wide(),
          shape <- shapes,
          do: Nx.add(Values.random(type, shape), Nx.eye(shape, type: type))

    views = for type <- Case.wide(), do: View.strided(Values.random(type, {3, 4}))

    # R's diagonal keeps its signs where nothing is below it.
    triangular =
      for {kind, _} = type when kind != :u <- Case.wide(), do: Nx.triu(regular(type, {4, 3}))

    zeros = for type <- Case.wide(), do: Values.random(type, {3, 2}, 0, 0)

    small =
      for mode <- [:reduced, :complete],
          input <- inputs ++ views ++ triangular ++ zeros,
          one <- qr(input, mode),
          do: one

    small ++ qr(mixed({:f, 32}, {@large, @large}), :reduced)
  end

  defp qr(input, mode),
    do: Case.record(%{qr: %{mode: mode}}, [input], &Nx.LinAlg.qr(&1, mode: mode))

  defp lu do
    shapes = [{1, 1}, {2, 2}, {4, 4}, {2, 3, 3}, {1, 2, 1, 3, 3}]
    inputs = for type <- Case.wide(), shape <- shapes, do: mixed(type, shape)
    large = [mixed({:f, 32}, {@large, @large})]

    singular =
      for type <- Case.wide(), do: Values.vector(rows(3, fn row, _ -> 2 ** row end), type)

    zeros = for type <- Case.wide(), do: Values.random(type, {2, 2}, 0, 0)
    views = for type <- Case.wide(), do: View.transposed(mixed(type, {3, 3}))

    for input <- inputs ++ large ++ singular ++ zeros ++ views,
        one <- Case.record("lu", [input], &Nx.LinAlg.lu/1),
        do: one
  end
end
