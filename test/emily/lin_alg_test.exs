# Without Nx there is no backend to test.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.LinAlgTest do
    @moduledoc """
    What Nx composes of systems and factorizations, beside `Nx.BinaryBackend`.
    """

    use ExUnit.Case, async: true

    alias Nx.BinaryBackend
    alias Nx.LinAlg

    @moduletag :nx
    @moduletag :native

    @types [u: 8, s: 32, s: 64, f: 16, bf: 16, f: 32, f: 64]

    # Nx rounds each of its steps to the type.
    @tolerance %{{:f, 16} => 5.0e-2, {:bf, 16} => 0.2, {:f, 64} => 1.0e-3}
    @near 1.0e-3

    @regular [[4, 1, 2], [1, 5, 3], [2, 1, 6]]
    @tall [[4, 1], [1, 5], [2, 1]]

    defp tensor(rows, type), do: Nx.tensor(rows, type: type, backend: Emily.Backend)
    defp on_binary(%Nx.Tensor{} = tensor), do: Nx.backend_copy(tensor, BinaryBackend)

    # What a function gives of the same tensors on Emily and on BinaryBackend.
    defp both(fun, inputs),
      do: {results(apply(fun, inputs)), results(apply(fun, Enum.map(inputs, &on_binary/1)))}

    defp results(%Nx.Tensor{} = one), do: [one]
    defp results(several), do: Tuple.to_list(several)

    defp assert_alike(fun, inputs) do
      {ours, expected} = both(fun, inputs)

      for {ours, expected} <- Enum.zip(ours, expected) do
        assert %Nx.Tensor{data: %Emily.Backend{}} = ours
        assert {ours.type, ours.shape} == {expected.type, expected.shape}
        near = Map.get(@tolerance, hd(inputs).type, @near)
        alike = Nx.all_close(on_binary(ours), expected, atol: near, rtol: near, equal_nan: true)
        assert Nx.to_number(alike) == 1, "expected #{inspect(expected)}, got: #{inspect(ours)}"
      end
    end

    for {name, fun} <- [
          invert: quote(do: &LinAlg.invert/1),
          "matrix_power of a negative exponent": quote(do: &LinAlg.matrix_power(&1, -2)),
          "matrix_power of 3": quote(do: &LinAlg.matrix_power(&1, 3)),
          norm: quote(do: &LinAlg.norm/1),
          "the nuclear norm": quote(do: &LinAlg.norm(&1, ord: :nuclear)),
          "the least singular value": quote(do: &LinAlg.norm(&1, ord: -2)),
          pinv: quote(do: &LinAlg.pinv/1),
          matrix_rank: quote(do: &LinAlg.matrix_rank/1),
          determinant: quote(do: &LinAlg.determinant/1),
          lu: quote(do: &LinAlg.lu/1),
          qr: quote(do: &LinAlg.qr/1),
          least_squares: quote(do: &LinAlg.least_squares(&1, Nx.tensor([1, 2, 3])))
        ] do
      test "#{name} of every type is what Nx makes of it" do
        for type <- @types, {type, unquote(name)} not in unmade() do
          assert_alike(unquote(fun), [tensor(@regular, type)])
        end
      end
    end

    # Nx multiplies u8 matrices as u8 on the way, where numbers wrap, and f16 ones in f16.
    defp unmade do
      for type <- [{:u, 8}, {:f, 16}, {:bf, 16}],
          name <- [
            :pinv,
            :matrix_rank,
            :least_squares,
            :"the nuclear norm",
            :"the least singular value"
          ],
          do: {type, name}
    end

    test "factorizations of tall and wide matrices" do
      for type <- [s: 32, f: 32, f: 64], turned <- [false, true] do
        matrix = tensor(@tall, type)
        matrix = if turned, do: Nx.transpose(matrix), else: matrix
        assert_alike(&LinAlg.pinv/1, [matrix])
        assert_alike(&LinAlg.qr(&1, mode: :complete), [matrix])
        assert_alike(&LinAlg.qr(&1, mode: :reduced), [matrix])
        assert_alike(&elem(LinAlg.svd(&1), 1), [matrix])
        assert_alike(&LinAlg.matrix_rank/1, [matrix])
      end
    end

    test "vectorized tensors" do
      a = [@regular, [[2, 0, 1], [0, 3, 0], [1, 0, 4]]] |> tensor({:f, 32}) |> Nx.vectorize(:x)
      b = [[1, 2, 3], [4, 5, 6]] |> tensor({:f, 32}) |> Nx.vectorize(:x)
      assert_alike(&Nx.devectorize(LinAlg.solve(&1, &2)), [a, b])
      assert_alike(&Nx.devectorize(LinAlg.triangular_solve(&1, &2)), [a, b])
      assert_alike(&Nx.devectorize(LinAlg.determinant(&1)), [a])
      assert_alike(&Nx.devectorize(LinAlg.invert(&1)), [a])
      assert_alike(&Nx.devectorize(elem(LinAlg.qr(&1), 1)), [a])
    end

    test "complex matrices" do
      rows = [[Complex.new(1, 2), 3], [Complex.new(0, -1), Complex.new(4, 1)]]
      matrix = tensor(rows, {:c, 64})

      for fun <- [
            &LinAlg.invert/1,
            &LinAlg.determinant/1,
            &LinAlg.matrix_power(&1, -3),
            &LinAlg.lu/1,
            &LinAlg.qr/1,
            &LinAlg.solve(&1, &1)
          ],
          do: assert_alike(fun, [matrix])

      assert_alike(&LinAlg.cholesky(Nx.dot(&1, LinAlg.adjoint(&1))), [matrix])
    end

    test "eigenvalues come by their magnitude, and vectors belong to them" do
      matrix = tensor([[1, 5, 0], [5, -2, 1], [0, 1, 3]], {:s, 32})
      {values, vectors} = LinAlg.eigh(matrix)
      magnitudes = values |> Nx.abs() |> Nx.to_flat_list()
      assert magnitudes == Enum.sort(magnitudes, :desc)
      product = matrix |> Nx.dot(vectors) |> Nx.subtract(Nx.multiply(vectors, values))
      assert product |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number() < 1.0e-5
      assert_alike(&elem(LinAlg.eigh(&1), 0), [matrix])
    end

    test "singular values that are zero but for rounding are zero" do
      matrix = tensor([[0.1, 0.2, 0.3], [0.2, 0.4, 0.6], [0.7, 0.1, 0.9]], {:f, 32})
      assert matrix |> LinAlg.matrix_rank() |> Nx.to_number() == 2
      inverse = LinAlg.pinv(matrix)
      assert inverse |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number() < 10
      again = matrix |> Nx.dot(inverse) |> Nx.dot(matrix)
      assert Nx.to_number(Nx.all_close(again, matrix, atol: 1.0e-5)) == 1
    end

    test "what cannot be solved raises" do
      singular = tensor([[1, 2], [2, 4]], {:f, 32})
      vector = tensor([1, 2], {:f, 32})

      assert_raise Emily.Error, ~r/\Asolve failed: expected matrices that can be inverted/, fn ->
        singular |> LinAlg.solve(vector) |> Nx.to_binary()
      end

      assert_raise ArgumentError, "can't solve for singular matrix", fn ->
        LinAlg.triangular_solve(tensor([[0, 0], [1, 1]], {:s, 32}), vector)
      end

      assert_raise Emily.Error, ~r/\Acholesky failed: expected positive definite matrices/, fn ->
        [[1, 2], [2, 1]] |> tensor({:f, 32}) |> LinAlg.cholesky() |> Nx.to_binary()
      end
    end
  end
end
