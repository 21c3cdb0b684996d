# Without Nx there is nothing to be wrong about.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Nx.TrapsTest do
    @moduledoc """
    Cases in which a backend easily gives a wrong value and no error.
    """

    use ExUnit.Case, async: true

    import Nx, only: [sigil_VEC: 2, sigil_MAT: 2]

    alias Nx.BinaryBackend

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    # What Nx's own backend makes of the same tensors.
    defp theirs(tensors, fun) do
      Nx.with_default_backend(BinaryBackend, fn ->
        tensors |> Enum.map(&Nx.backend_copy(&1, BinaryBackend)) |> fun.()
      end)
    end

    defp same(tensors, fun) do
      ours = fun.(tensors)
      assert %Nx.Tensor{data: %Emily.Backend{}} = ours
      expected = theirs(tensors, fun)
      assert {ours.type, ours.shape} == {expected.type, expected.shape}
      assert Nx.to_flat_list(ours) == Nx.to_flat_list(expected)
      ours
    end

    defp close(actual, expected, tolerance \\ 1.0e-4) do
      assert Nx.shape(actual) == Nx.shape(expected)

      for {a, b} <- Enum.zip(Nx.to_flat_list(actual), Nx.to_flat_list(expected)) do
        assert abs(a - b) <= tolerance * max(1, abs(b)),
               "#{inspect(actual)} and #{inspect(expected)}"
      end
    end

    test "argmax and argmin of a whole tensor count in row-major order" do
      t = Nx.tensor([[3, 1, 4], [1, 5, 9], [2, 6, 5]])
      assert Nx.to_number(Nx.argmax(t)) == 5
      assert Nx.to_number(Nx.argmin(t)) == 1
      assert Nx.to_number(Nx.argmax(Nx.transpose(t))) == 7
      assert %{type: {:s, 32}, shape: {}} = Nx.argmax(t)
    end

    test "tie_break: :high gives the last of equal extremes" do
      t = Nx.tensor([[1, 7, 7], [7, 0, 0]])
      assert Nx.to_number(Nx.argmax(t)) == 1
      assert Nx.to_number(Nx.argmax(t, tie_break: :high)) == 3
      assert Nx.to_number(Nx.argmin(t, tie_break: :high)) == 5
      assert Nx.to_flat_list(Nx.argmax(t, axis: 1, tie_break: :high)) == [2, 0]
    end

    test "a NaN decides reductions and what is the greatest" do
      for type <- [:f16, :bf16, :f32, :f64] do
        t = Nx.tensor([[1.0, :nan, 3.0], [4.0, 5.0, :neg_infinity]], type: type)

        for fun <- [
              &Nx.sum/1,
              &Nx.product/1,
              &Nx.reduce_max/1,
              &Nx.reduce_min/1,
              &Nx.argmax/1,
              &Nx.argmin/1,
              &Nx.argmax(&1, tie_break: :high),
              &Nx.reduce_max(&1, axes: [0]),
              &Nx.argmin(&1, axis: 1),
              &Nx.all/1,
              &Nx.any(&1, axes: [1])
            ] do
          same([t], fn [t] -> fun.(t) end)
        end
      end
    end

    test "gather takes its indices along the axes that it is given" do
      t = Nx.iota({2, 3, 4})
      indices = Nx.tensor([[3, 1], [0, 0], [2, 1]])

      assert Nx.to_flat_list(Nx.gather(t, Nx.tensor([[1], [0]]), axes: [2])) == [
               1,
               5,
               9,
               13,
               17,
               21,
               0,
               4,
               8,
               12,
               16,
               20
             ]

      same([t, indices |> Nx.reverse(axes: [1])], fn [t, i] -> Nx.gather(t, i, axes: [1, 2]) end)
      same([t, Nx.tensor([[1, 3], [0, 2]])], fn [t, i] -> Nx.gather(t, i, axes: [0, 2]) end)
    end

    test "a remainder has the dividend's sign, and a quotient is truncated" do
      a = ~VEC[-7 7 -7 7 -8]
      b = ~VEC[3 -3 -3 3 3]
      assert Nx.to_flat_list(Nx.remainder(a, b)) == [-1, 1, -1, 1, -2]
      assert Nx.to_flat_list(Nx.quotient(a, b)) == [-2, -2, 2, 2, -2]
      floats = Nx.tensor([-7.5, 7.5, -0.5])
      assert Nx.to_flat_list(Nx.remainder(floats, 2)) == [-1.5, 1.5, -0.5]
    end

    test "halves are rounded away from zero" do
      for type <- [:f16, :bf16, :f32, :f64] do
        t = Nx.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.25], type: type)
        assert Nx.to_flat_list(Nx.round(t)) == [1.0, 2.0, 3.0, -1.0, -2.0, -3.0, 0.0]
      end
    end

    test "a window's function need not be associative" do
      t = Nx.iota({4, 4}, type: :f32)
      same_padding = [padding: :same, strides: [2, 2]]

      for fun <- [
            fn x, acc -> Nx.add(acc, Nx.multiply(x, x)) end,
            fn x, acc -> Nx.subtract(x, acc) end,
            fn x, acc -> Nx.subtract(Nx.sum(Nx.stack([x, x])), acc) end
          ] do
        same([t], fn [t] -> Nx.window_reduce(t, 1.0, {3, 3}, same_padding, fun) end)
      end

      same([t], fn [t] -> Nx.reduce(t, 0, fn x, acc -> Nx.add(Nx.multiply(x, x), acc) end) end)
    end

    test "covariances without variance have a Cholesky factor" do
      for rows <- [[[25, 25], [25, 25]], [[0, 0], [0, 4]]] do
        same([Nx.tensor(rows)], fn [t] -> Nx.LinAlg.cholesky(t) end)
      end

      key = Nx.Random.key(12)
      covariance = Nx.tensor([[25, 25], [25, 25]])
      {t, _key} = Nx.Random.multivariate_normal(key, Nx.tensor([1, 2]), covariance)
      [x, y] = Nx.to_flat_list(t)
      assert_in_delta y - x, 1.0, 1.0e-4
    end

    test "anything may say whether NaN equals NaN" do
      t = ~VEC[1.0 NaN]
      assert Nx.to_number(Nx.all_close(t, t, equal_nan: nil)) == 0
      assert Nx.to_number(Nx.all_close(t, t, equal_nan: :yes)) == 1
    end

    test "the angle of complex numbers without an imaginary part, and of no others" do
      real = Nx.tensor([Complex.new(7, 0), Complex.new(-1, 0)])
      close(Nx.real(Nx.atan2(real, 2)), Nx.atan2(~VEC[7.0 -1.0], 2), 1.0e-6)

      assert_raise Emily.Error,
                   ~r/\Aatan2 failed: expected numbers without an imaginary part/,
                   fn ->
                     Nx.to_flat_list(Nx.atan2(7, Nx.tensor(Complex.new(1, 2))))
                   end
    end

    test "a complex number is infinite or NaN if one of its parts is" do
      t =
        Nx.tensor([
          Complex.new(:infinity, 1),
          Complex.new(1, :neg_infinity),
          Complex.new(:nan, 1),
          Complex.new(0, :nan),
          Complex.new(1, 2)
        ])

      assert Nx.to_flat_list(Nx.is_infinity(t)) == [1, 1, 0, 0, 0]
      assert Nx.to_flat_list(Nx.is_nan(t)) == [0, 0, 1, 1, 0]
    end

    test "a limit counts elements, of a view and of vectorized axes too" do
      t = Nx.iota({2, 3}, type: :s16)
      assert Nx.to_flat_list(t, limit: 2) == [0, 1]
      assert Nx.to_flat_list(Nx.transpose(t), limit: 3) == [0, 3, 1]

      assert Nx.to_binary(t, limit: 4) ==
               <<0::16-native, 1::16-native, 2::16-native, 3::16-native>>

      assert Nx.to_flat_list(Nx.vectorize(t, :x), limit: 4) == [0, 1, 2, 3]
      assert Nx.to_flat_list(t, limit: 100) == [0, 1, 2, 3, 4, 5]
    end

    test "infinities and NaN become the integers that Nx makes of them" do
      for from <- [:f16, :bf16, :f32, :f64],
          to <- [:u8, :u16, :u32, :u64, :s8, :s16, :s32, :s64] do
        t = Nx.tensor([:infinity, :neg_infinity, :nan, -1.75, 2.75], type: from)
        same([t], fn [t] -> Nx.as_type(t, to) end)
      end
    end

    test "f64 keeps its digits through every operation" do
      x = 0.7310585786300049

      for {name, expected} <- [
            exp: :math.exp(x),
            log: :math.log(x),
            sin: :math.sin(x),
            cos: :math.cos(x),
            tan: :math.tan(x),
            sinh: :math.sinh(x),
            cosh: :math.cosh(x),
            tanh: :math.tanh(x),
            asin: :math.asin(x),
            acos: :math.acos(x),
            atan: :math.atan(x),
            asinh: :math.asinh(x),
            sqrt: :math.sqrt(x),
            rsqrt: 1 / :math.sqrt(x),
            cbrt: :math.pow(x, 1 / 3),
            erf: :math.erf(x),
            erfc: :math.erfc(x),
            sigmoid: 1 / (1 + :math.exp(-x)),
            expm1: :math.exp(x) - 1,
            log1p: :math.log(1 + x)
          ] do
        actual = Nx.to_number(apply(Nx, name, [Nx.tensor(x, type: :f64)]))
        assert abs(actual - expected) < 1.0e-14, "#{name}: #{actual} instead of #{expected}"
      end

      for x <- [0.0, 1.0e-300, -1.0e-7, 0.3, -0.5, 0.9, 0.999999, -1.0 + 1.0e-12] do
        inverse = Nx.to_number(Nx.erf_inv(Nx.tensor(x, type: :f64)))
        complement = 1.0 - abs(x)
        assert abs(:math.erf(inverse) - x) <= 1.0e-15 * max(abs(x), 1.0e-300)
        assert abs(:math.erfc(abs(inverse)) - complement) <= 1.0e-13 * complement
      end

      tiny = Nx.tensor([1.0, 1.0e-12], type: :f64)
      assert Nx.to_number(Nx.sum(tiny)) == 1.0 + 1.0e-12
      assert Nx.to_number(Nx.dot(tiny, Nx.tensor([1.0, 1.0], type: :f64))) == 1.0 + 1.0e-12
      assert Nx.to_number(Nx.mean(tiny)) == (1.0 + 1.0e-12) / 2

      close(
        Nx.LinAlg.invert(Nx.tensor([[3.0, 1.0], [1.0, 2.0]], type: :f64)),
        Nx.tensor([[0.4, -0.2], [-0.2, 0.6]], type: :f64),
        1.0e-14
      )
    end

    test "vectorized tensors are reduced, slid over and sorted one by one" do
      t = Nx.tensor([[3, 1, 2], [6, 5, 4]])
      v = Nx.vectorize(t, :rows)
      flat = &Nx.to_flat_list/1

      assert flat.(Nx.sum(v)) == [6, 15]
      assert flat.(Nx.reduce_max(v)) == [3, 6]
      assert flat.(Nx.argmin(v)) == [1, 2]
      assert flat.(Nx.window_sum(v, {2})) == [4, 3, 11, 9]
      assert flat.(Nx.window_max(v, {2}, strides: [2])) == [3, 6]
      assert flat.(Nx.sort(v)) == [1, 2, 3, 4, 5, 6]
      assert flat.(Nx.argsort(v, direction: :desc)) == [0, 2, 1, 0, 1, 2]
      assert flat.(Nx.cumulative_sum(v)) == [3, 4, 6, 6, 11, 15]
      assert Nx.sum(v).vectorized_axes == [rows: 2]
    end

    test "every function of linear algebra takes integers" do
      a = ~MAT[
        4 1
        1 3
      ]

      b = ~VEC[1 2]
      f = &Nx.as_type(&1, :f32)

      for {name, fun} <- [
            cholesky: &Nx.LinAlg.cholesky/1,
            invert: &Nx.LinAlg.invert/1,
            determinant: &Nx.LinAlg.determinant/1,
            norm: &Nx.LinAlg.norm/1,
            pinv: &Nx.LinAlg.pinv/1,
            solve: &Nx.LinAlg.solve(&1, if(Nx.type(&1) == {:f, 32}, do: f.(b), else: b)),
            triangular_solve:
              &Nx.LinAlg.triangular_solve(
                Nx.tril(&1),
                if(Nx.type(&1) == {:f, 32}, do: f.(b), else: b)
              ),
            least_squares:
              &Nx.LinAlg.least_squares(&1, if(Nx.type(&1) == {:f, 32}, do: f.(b), else: b)),
            qr: &elem(Nx.LinAlg.qr(&1), 1),
            eigh: &elem(Nx.LinAlg.eigh(&1), 0),
            svd: &elem(Nx.LinAlg.svd(&1), 1),
            lu: &elem(Nx.LinAlg.lu(&1), 2),
            matrix_rank: &Nx.LinAlg.matrix_rank/1
          ] do
        integers = fun.(a)
        floats = fun.(f.(a))
        assert Nx.type(integers) == Nx.type(floats), "#{name}"
        close(integers, floats, 1.0e-6)
      end

      assert Nx.to_flat_list(Nx.LinAlg.matrix_power(a, 3)) == [75, 38, 38, 37]
      assert Nx.to_flat_list(Nx.LinAlg.adjoint(a)) == [4, 1, 1, 3]
    end

    test "products of integer matrices are exact, and wrap" do
      a = Nx.tensor([[16_777_217, 1], [3, 4]], type: :s32)
      assert Nx.to_flat_list(Nx.dot(a, Nx.eye(2, type: :s32))) == [16_777_217, 1, 3, 4]

      b = Nx.tensor([[9_007_199_254_740_993, 1]], type: :s64)
      assert Nx.to_flat_list(Nx.dot(b, Nx.tensor([1, 0], type: :s64))) == [9_007_199_254_740_993]

      c = Nx.tensor([100, 100], type: :s8)
      same([c], fn [c] -> Nx.dot(c, c) end)
      same([Nx.tensor([[200, 100]], type: :u8)], fn [c] -> Nx.dot(c, Nx.transpose(c)) end)
    end

    test "eigenvalues come in Nx's order, and QR with its signs" do
      a = Nx.tensor([[2.0, -1.0, 0.0], [-1.0, 3.0, 0.5], [0.0, 0.5, -4.0]])
      {values, vectors} = Nx.LinAlg.eigh(a)
      {expected, _vectors} = theirs([a], fn [a] -> Nx.LinAlg.eigh(a) end)
      close(values, expected, 1.0e-3)
      close(Nx.dot(a, vectors), Nx.multiply(vectors, values), 1.0e-4)

      m = Nx.tensor([[1.0, -2.0], [3.0, 4.0], [-5.0, 6.0]])

      for mode <- [:reduced, :complete] do
        {q, r} = Nx.LinAlg.qr(m, mode: mode)
        {expected_q, expected_r} = theirs([m], fn [m] -> Nx.LinAlg.qr(m, mode: mode) end)
        close(r, expected_r)
        close(q[[.., 0..1]], expected_q[[.., 0..1]])
        close(Nx.dot(q, r), m)
      end
    end

    test "a negative power of a matrix is one of its inverse" do
      a = Nx.tensor([[2.0, 1.0], [1.0, 1.0]])
      close(Nx.LinAlg.matrix_power(a, -2), Nx.tensor([[2.0, -3.0], [-3.0, 5.0]]))

      close(
        Nx.LinAlg.matrix_power(Nx.tensor([[2, 1], [1, 1]]), -1),
        Nx.tensor([[1.0, -1.0], [-1.0, 2.0]])
      )
    end

    test "negative padding takes elements away" do
      t = Nx.iota({3, 4})
      assert Nx.to_flat_list(Nx.pad(t, 0, [{-1, 0, 0}, {0, -2, 0}])) == [4, 5, 8, 9]
      assert Nx.to_flat_list(Nx.pad(~VEC[1 2 3], 0, [{-1, 2, 1}])) == [0, 2, 0, 3, 0, 0]
      same([t], fn [t] -> Nx.pad(t, 9, [{1, -1, 2}, {-2, 3, 1}]) end)
    end

    test "types of 2 and 4 bits are read from packed bits, and written so" do
      for {type, bits, numbers, doubled} <- [
            {:u4, <<1::4, 15::4, 8::4>>, [1, 15, 8], [2, 14, 0]},
            {:s4, <<1::4, -1::4, -8::4, 7::4>>, [1, -1, -8, 7], [2, -2, 0, -2]},
            {:u2, <<0::2, 3::2, 2::2>>, [0, 3, 2], [0, 2, 0]},
            {:s2, <<0::2, -1::2, -2::2, 1::2, 1::2>>, [0, -1, -2, 1, 1], [0, -2, 0, -2, -2]}
          ] do
        t = Nx.from_binary(bits, type)
        assert Nx.to_flat_list(t) == numbers
        assert Nx.to_binary(t) == bits
        assert Nx.to_flat_list(t, limit: 2) == Enum.take(numbers, 2)
        assert Nx.to_flat_list(Nx.backend_copy(t)) == numbers
        assert Nx.to_flat_list(Nx.add(t, t)) == doubled
      end
    end
  end
end
