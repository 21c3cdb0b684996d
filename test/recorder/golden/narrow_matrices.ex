defmodule Emily.Golden.NarrowMatrices do
  @moduledoc """
  Cases of systems and factorizations in the types that MLX does not have.

  They hold too few numbers for those of `Emily.Golden.Matrices`. BinaryBackend rounds to f8 after each
  step, of which it takes others than MLX, so all numbers on the way are ones that f8 has.
  """

  alias Emily.Golden.{Case, Values, View}

  @lower [[1, 0], [1, 1]]
  @swapped [[0, 1], [1, 0]]
  @unit [[1, 0], [0, 1]]

  def cases, do: for(type <- Case.narrow(), one <- systems(type) ++ factors(type), do: one)

  defp systems(type) do
    a = Values.vector(@lower, type)

    triangular =
      for transform_a <- [:none, :transpose],
          b <- [[1, 1], @lower, @swapped],
          form = %{lower: true, left_side: true, transform_a: transform_a},
          do:
            {%{triangular_solve: form}, [a, Values.vector(b, type)],
             &Nx.LinAlg.triangular_solve(&1, &2, Map.to_list(form))}

    solved =
      for a <- [a, Values.vector(@swapped, type), View.transposed(a)],
          b <- [[1, 1], @lower],
          do: {"solve", [a, Values.vector(b, type)], &Nx.LinAlg.solve/2}

    record(triangular ++ solved)
  end

  defp factors(type) do
    matrices =
      for x <- [@lower, @swapped, @unit, [@lower, @swapped], [[1]]], do: Values.vector(x, type)

    diagonals = for x <- [@unit, [[1]], [@unit, @unit]], do: Values.vector(x, type)

    record(
      for(x <- matrices, do: {"determinant", [x], &Nx.LinAlg.determinant/1}) ++
        for(x <- matrices, do: {"lu", [x], &Nx.LinAlg.lu/1}) ++
        for(x <- diagonals, do: {"cholesky", [x], &Nx.LinAlg.cholesky/1}) ++
        for(x <- diagonals, mode <- [:reduced, :complete], do: qr(x, mode)) ++
        spectra(type)
    )
  end

  defp qr(x, mode), do: {%{qr: %{mode: mode}}, [x], &Nx.LinAlg.qr(&1, mode: mode)}

  # Values far apart and positive; s2 does not hold 2.
  defp spectra({:s, 2}), do: []

  defp spectra(type) do
    x = Values.vector([[2, 0], [0, 1]], type)
    [{"eigh", [x], &Nx.LinAlg.eigh/1}, {%{svd: %{full_matrices: true}}, [x], &Nx.LinAlg.svd/1}]
  end

  # Numbers of Nx's own have f32 beside f8_e4m3fn, where `Nx.Type.merge_number/2` does not know it, and
  # so have some results.
  defp record(calls) do
    for {op, inputs, fun} <- calls,
        infer = not Enum.any?(inputs, &match?(%Nx.Tensor{type: {:f8_e4m3fn, 8}}, &1)),
        one <- Case.record(op, inputs, fun, infer: infer),
        # Of several results each is to be told or none.
        infer or is_struct(one.out, Nx.Tensor),
        do: one
  end
end
