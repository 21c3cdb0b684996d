if Code.ensure_loaded?(Nx) do
  defmodule Emily.FastTest do
    use ExUnit.Case, async: true

    import Nx.Defn

    alias Emily.Fast

    @moduletag :nx
    @moduletag :native

    doctest Emily.Fast

    @types [:f32, :f16, :bf16]
    @tolerance %{f64: 1.0e-12, f32: 2.0e-5, f16: 1.0e-2, bf16: 8.0e-2}

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp random(shape, type, seed) do
      {x, _key} = Nx.Random.normal(Nx.Random.key(seed), shape: shape, type: :f32)
      Nx.as_type(x, type)
    end

    # What the function gives on Emily, eager and compiled, is near what Nx's own operations give.
    defp agree(fun, arguments, type, what \\ nil) do
      expected = apply(fun, arguments)
      there = Enum.map(arguments, &Nx.backend_copy(&1, Emily.Backend))
      compiled = Nx.Defn.jit_apply(fun, there, compiler: Emily.Compiler, native_fallback: :raise)

      eager = Nx.with_default_backend(Emily.Backend, fn -> apply(fun, there) end)

      for result <- [eager, compiled] do
        assert %Emily.Backend{} = result.data
        assert {result.shape, result.type} == {expected.shape, expected.type}
        result = Nx.backend_copy(result, Nx.BinaryBackend)
        difference = Nx.abs(Nx.subtract(Nx.as_type(result, :f64), Nx.as_type(expected, :f64)))
        bound = Nx.multiply(@tolerance[type], Nx.add(1, Nx.abs(Nx.as_type(expected, :f64))))

        assert Nx.to_number(Nx.all(Nx.less_equal(difference, bound))) == 1,
               inspect({what, result, expected})
      end
    end

    # The operation in place of those that it stands for.
    defp kernels(fun, arguments) do
      text = Emily.Compiler.explain(fun, arguments, passes: :none)
      text |> String.split("\n") |> hd()
    end

    describe "norms" do
      test "agree with what they stand for" do
        for type <- @types ++ [:f64], shape <- [{3}, {2, 1}, {1, 5, 16}, {2, 3, 4, 33}] do
          last = elem(shape, tuple_size(shape) - 1)

          [x, weight, bias] = [
            random(shape, type, 1),
            random({last}, type, 2),
            random({last}, type, 3)
          ]

          agree(&Fast.rms_norm/2, [x, weight], type)
          agree(&Fast.rms_norm(&1, &2, epsilon: 0.1), [x, weight], type)
          agree(&Fast.layer_norm/3, [x, weight, bias], type)
          agree(&Fast.layer_norm(&1, &2, &3, epsilon: 0.1), [x, weight, bias], type)
        end

        # A weight for each head, and tensors of other types.
        agree(&Fast.rms_norm/2, [random({2, 3, 4}, :f32, 1), random({3, 4}, :f16, 2)], :f32)

        agree(
          &Fast.layer_norm/3,
          [Nx.iota({2, 4}), random({4}, :f32, 1), random({4}, :f32, 2)],
          :f32
        )
      end

      test "are one operation" do
        [x, weight] = [Nx.template({2, 8}, :bf16), Nx.template({8}, :bf16)]
        assert kernels(&Fast.rms_norm/2, [x, weight]) =~ "1 operation (1 rms_norm)"
        assert kernels(&Fast.layer_norm/3, [x, weight, weight]) =~ "1 operation (1 layer_norm)"
      end

      test "refuse what does not fit" do
        x = Nx.iota({2, 3}, type: :f32)

        assert_raise ArgumentError,
                     ~r/a weight with the sizes of its last axes, got: \{2, 3\}, \{2\}/,
                     fn ->
                       Fast.rms_norm(x, Nx.iota({2}))
                     end

        assert_raise ArgumentError,
                     ~r/as long as its last axis, got: \{2, 3\}, \{3\}, \{1\}/,
                     fn ->
                       Fast.layer_norm(x, Nx.iota({3}), Nx.iota({1}))
                     end

        assert_raise ArgumentError,
                     "expected :epsilon to be a number of at least 0, got: -1",
                     fn ->
                       Fast.rms_norm(x, Nx.iota({3}), epsilon: -1)
                     end
      end
    end

    describe "rope/3" do
      test "agrees with what it stands for" do
        for type <- @types, shape <- [{1, 1, 2}, {2, 3, 8}, {2, 3, 5, 6}, {2, 1, 2, 3, 4}] do
          x = random(shape, type, 1)
          rows = Nx.iota({elem(shape, 0)})

          for offset <- [Nx.tensor(0), Nx.tensor(7), rows],
              opts <- [[], [traditional: true], [dims: 2], [base: 100, scale: 0.5]] do
            agree(&Fast.rope(&1, &2, opts), [x, offset], type, {shape, opts})
          end

          pairs = div(elem(shape, tuple_size(shape) - 1), 2)
          frequencies = Nx.add(1, Nx.iota({pairs}, type: :f32))
          agree(&Fast.rope(&1, &2, frequencies: &3), [x, rows, frequencies], type)
        end

        agree(&Fast.rope/2, [random({2, 3, 4}, :f64, 1), Nx.tensor(3)], :f64)
      end

      test "turns a pair by its position" do
        x = Nx.tensor([[[1.0, 0.0]]])
        [cos, sin] = Fast.rope(x, 3) |> Nx.to_flat_list()
        assert_in_delta cos, :math.cos(3), 1.0e-6
        assert_in_delta sin, :math.sin(3), 1.0e-6
      end

      test "refuses what does not fit" do
        x = Nx.iota({2, 3, 4}, type: :f32)

        for {fun, text} <- [
              {fn -> Fast.rope(Nx.iota({2, 3}), 0) end, ~r/three axes or more, got: \{2, 3\}/},
              {fn -> Fast.rope(x, Nx.iota({3})) end, ~r/an offset or one for each row/},
              {fn -> Fast.rope(x, 1.5) end, ~r/the offset to be of integers, got: \{:f, 32\}/},
              {fn -> Fast.rope(x, 0, dims: 3) end,
               ~r/an even number up to the features, which are 4, got: 3/},
              {fn -> Fast.rope(x, 0, base: 0) end, ~r/:base to be a positive number, got: 0/},
              {fn -> Fast.rope(x, 0, base: 1, frequencies: Nx.iota({2})) end, ~r/got: both/},
              {fn -> Fast.rope(x, 0, frequencies: Nx.iota({3})) end,
               ~r/one for each pair of 4 features/}
            ] do
          assert_raise ArgumentError, text, fun
        end
      end
    end

    describe "scaled_dot_product_attention/4" do
      @shapes [
        {{1, 1, 1, 1}, {1, 1, 1, 1}},
        {{2, 3, 5, 8}, {2, 3, 7, 8}},
        {{1, 6, 1, 16}, {1, 2, 9, 16}},
        {{1, 4, 17, 20}, {1, 1, 17, 20}}
      ]

      test "agrees with what it stands for" do
        for type <- @types, {shape, other} <- @shapes do
          [query, key, value] = [
            random(shape, type, 1),
            random(other, type, 2),
            random(other, type, 3)
          ]

          {batch, heads, positions, _features} = shape
          seen = elem(other, 2)
          hidden = Nx.iota({positions, seen}) |> Nx.remainder(3) |> Nx.not_equal(1)
          added = random({batch, 1, positions, seen}, type, 4)
          sinks = random({heads}, type, 5)
          attend = &Fast.scaled_dot_product_attention/4

          for opts <- [[], [scale: 0.3], [causal: true]] do
            agree(&attend.(&1, &2, &3, opts), [query, key, value], type, {shape, opts})
            with_mask = &attend.(&1, &2, &3, [mask: &4] ++ opts)
            agree(with_mask, [query, key, value, hidden], type, {shape, opts, :hidden})
            agree(with_mask, [query, key, value, added], type, {shape, opts, :added})
            agree(&attend.(&1, &2, &3, [sinks: &4] ++ opts), [query, key, value, sinks], type)

            both = &attend.(&1, &2, &3, [mask: &4, sinks: &5] ++ opts)
            agree(both, [query, key, value, hidden, sinks], type, {shape, opts, :both})
            agree(both, [query, key, value, Nx.as_type(added, :f64), sinks], type, :converted)
          end
        end
      end

      test "is one operation, with a mask and sinks" do
        x = Nx.template({1, 2, 3, 8}, :bf16)
        attend = &Fast.scaled_dot_product_attention(&1, &1, &1, mask: &2, sinks: &3)
        text = kernels(attend, [x, Nx.template({3, 3}, :bf16), Nx.template({2}, :f32)])
        assert text =~ "1 operation (1 attention)"
      end

      test "a position that may look nowhere gives the mean, NaN, or zeros beside a sink" do
        query = random({1, 2, 2, 4}, :f32, 1)
        value = Nx.iota({1, 2, 3, 4}, type: :f32)
        [mean, nothing] = [Nx.mean(value, axes: [2]), Nx.broadcast(0.0, {1, 2, 4})]
        hidden = Nx.tensor([[0, 0, 0], [1, 1, 1]])
        infinite = Nx.select(hidden, 0.0, Nx.Constants.neg_infinity())
        sinks = Nx.tensor([1.0, 2.0])

        for backend <- [Nx.BinaryBackend, {Emily.Backend, device: :cpu}] do
          Nx.with_default_backend(backend, fn ->
            [query, value, hidden, infinite, sinks] =
              for x <- [query, value, hidden, infinite, sinks], do: Nx.backend_copy(x, backend)

            attend = &Fast.scaled_dot_product_attention(query, value, value, &1)
            first = fn opts -> attend.(opts)[[.., .., 0]] |> Nx.backend_copy(Nx.BinaryBackend) end
            assert Nx.to_number(Nx.all_close(first.(mask: hidden), mean)) == 1
            assert Nx.to_number(Nx.all(Nx.is_nan(first.(mask: infinite)))) == 1
            refute Nx.to_number(Nx.any(Nx.is_nan(attend.(mask: infinite)[[.., .., 1]]))) == 1

            for mask <- [hidden, infinite],
                do:
                  assert(Nx.to_binary(first.(mask: mask, sinks: sinks)) == Nx.to_binary(nothing))
          end)
        end
      end

      test "a sink takes its share" do
        x = Nx.broadcast(1.0, {1, 1, 1, 1})
        sinks = Nx.tensor([1.0])

        assert_in_delta 0.5,
                        x
                        |> Fast.scaled_dot_product_attention(x, x, sinks: sinks)
                        |> Nx.sum()
                        |> Nx.to_number(),
                        1.0e-6
      end

      test "refuses what does not fit" do
        x = Nx.iota({1, 2, 3, 4}, type: :f32)
        attend = &Fast.scaled_dot_product_attention/4

        for {fun, text} <- [
              {fn -> attend.(x, Nx.iota({1, 2, 3, 5}), x, []) end,
               ~r/that fit, got: \{1, 2, 3, 4\}, \{1, 2, 3, 5\}/},
              {fn -> attend.(x, x, x, mask: Nx.iota({2, 3, 2})) end,
               ~r/:mask to broadcast to \{1, 2, 3, 3\}, got: \{2, 3, 2\}/},
              {fn -> attend.(x, x, x, sinks: Nx.iota({3})) end,
               ~r/:sinks to be one for each head, got: \{3\}/},
              {fn -> attend.(x, x, x, scale: :no) end, ~r/:scale to be a number, got: :no/}
            ] do
          assert_raise ArgumentError, text, fun
        end
      end
    end

    describe "einsum/2" do
      test "sums what the result does not name" do
        a = Nx.iota({2, 3})
        b = Nx.iota({3, 4})
        c = Nx.iota({2, 3, 4})
        square = Nx.iota({3, 3})

        for {text, tensors, expected} <- [
              {"ij,jk->ik", [a, b], Nx.dot(a, b)},
              {"ij,jk", [a, b], Nx.dot(a, b)},
              {"ij, jk -> ki", [a, b], Nx.transpose(Nx.dot(a, b))},
              {"ij->ji", [a], Nx.transpose(a)},
              {"ij->", [a], Nx.sum(a)},
              {"ij->j", [a], Nx.sum(a, axes: [0])},
              {"ii->i", [square], Nx.take_diagonal(square)},
              {"ii", [square], Nx.sum(Nx.take_diagonal(square))},
              {"ij,ij->ij", [a, a], Nx.multiply(a, a)},
              {"i,j->ij", [Nx.iota({2}), Nx.iota({3})], Nx.outer(Nx.iota({2}), Nx.iota({3}))},
              {"ij,ijk->ik", [a, c], Nx.dot(a, [1], [0], c, [1], [0])},
              {"ij,jk,kl->il", [a, b, Nx.iota({4, 2})],
               a |> Nx.dot(b) |> Nx.dot(Nx.iota({4, 2}))},
              {"...ij,jk->...ik", [Nx.iota({5, 2, 3}), b], Nx.dot(Nx.iota({5, 2, 3}), b)},
              {"i...->...", [c], Nx.sum(c, axes: [0])}
            ] do
          agree(fn one -> Fast.einsum(text, [one | tl(tensors)]) end, [hd(tensors)], :f32, text)

          assert Fast.einsum(text, tensors) ==
                   Nx.as_type(expected, Fast.einsum(text, tensors).type),
                 text
        end
      end

      test "refuses what does not fit" do
        a = Nx.iota({2, 3})

        for {text, tensors, problem} <- [
              {"ij,jk", [a], "as many lists of axes as tensors, which are 1"},
              {"ijk", [a], "\"ijk\" to name the 2 axes of its tensor"},
              {"ij->k", [a], "each axis of the result once, and in some tensor"},
              {"ij->ii", [a], "each axis of the result once"},
              {"ij,jk->ik", [a, a], "axis j to have one size, which are 3 and 2"},
              {"i1", [a], "letters, commas, ellipses and an arrow"},
              {"i->j->k", [a], "one arrow at most"}
            ] do
          error = assert_raise ArgumentError, fn -> Fast.einsum(text, tensors) end
          assert error.message =~ problem
        end
      end
    end

    describe "gradients" do
      defn loss(x, weight, bias) do
        x
        |> Fast.rms_norm(weight)
        |> Fast.layer_norm(weight, bias)
        |> Nx.reshape({1, 2, 3, 4})
        |> Fast.rope(2)
        |> attend()
        |> Nx.sin()
        |> Nx.sum()
      end

      defnp attend(x) do
        Fast.scaled_dot_product_attention(x, x, x, causal: true)
      end

      defn gradient(x, weight, bias) do
        grad(x, &loss(&1, weight, bias))
      end

      test "are those of what they stand for" do
        arguments = [random({6, 4}, :f32, 1), random({4}, :f32, 2), random({4}, :f32, 3)]
        agree(&gradient/3, arguments, :f32)
        # Against finite differences.
        [x, weight, bias] = arguments
        step = Nx.put_slice(Nx.broadcast(0.0, {6, 4}), [1, 2], Nx.tensor([[1.0e-2]]))
        [x, weight, bias, step] = Enum.map([x, weight, bias, step], &Nx.as_type(&1, :f64))
        ahead = loss(Nx.add(x, step), weight, bias)
        behind = loss(Nx.subtract(x, step), weight, bias)
        slope = Nx.to_number(Nx.subtract(ahead, behind)) / 0.02
        exact = gradient(x, weight, bias)[1][2] |> Nx.to_number()
        assert_in_delta slope, exact, 1.0e-3 * (1 + abs(exact))
      end
    end

    test "vectorized tensors are computed by Nx's operations" do
      x = Nx.vectorize(random({2, 3, 4}, :f32, 1), :rows)
      weight = random({4}, :f32, 2)
      result = Fast.rms_norm(x, weight)
      assert result.vectorized_axes == [rows: 2]
      expected = Fast.rms_norm(Nx.devectorize(x), weight)
      assert Nx.to_number(Nx.all_close(Nx.devectorize(result), expected)) == 1
    end
  end
end
