# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Compiler.PatternsTest do
    @moduledoc """
    Formulas as libraries of layers write them, and what they become.

    Each is compiled with all passes and with the exact ones, for each type that the fused operations
    have; the results may differ by what the documentation of `Emily.Compiler` says.
    """

    use ExUnit.Case, async: true

    import Nx.Defn

    alias Emily.Compiler
    alias Nx.Defn.Composite

    @moduletag :nx
    @moduletag :native

    @tolerances [f32: 1.0e-5, f16: 0.006, bf16: 0.05]
    @types Keyword.keys(@tolerances)

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    # Which patterns a function has, and that it gives what it does without them.
    defp patterns(fun, arguments) do
      templates = Enum.map(arguments, &Nx.to_template/1)
      expected = run(fun, arguments, :exact)

      for {x, y} <- Enum.zip(leaves(expected), leaves(run(fun, arguments, :all))) do
        assert {x.type, x.shape} == {y.type, y.shape}
        near!(x, y, tolerance(arguments ++ [expected]))
      end

      fired(fun, templates)
    end

    defp run(fun, arguments, passes),
      do: Nx.Defn.jit_apply(fun, arguments, compiler: Compiler, passes: passes)

    defp leaves(container), do: Composite.flatten_list([container])

    defp tolerance(containers) do
      tolerances =
        for leaf <- leaves(List.to_tuple(containers)),
            {type, tolerance} <- @tolerances,
            Nx.Type.normalize!(type) == leaf.type,
            do: tolerance

      Enum.max(tolerances)
    end

    defp near!(x, y, tolerance) do
      for {x, y} <- Enum.zip(Nx.to_flat_list(x), Nx.to_flat_list(y)),
          do: assert(x == y or abs(x - y) <= tolerance * (1 + abs(x)), "#{x} #{y}")
    end

    # "rms_norm 2, softmax 1"
    defp fired(fun, templates) do
      text = Compiler.explain(fun, templates)
      [patterns] = Regex.run(~r/^patterns: (.*)$/m, text, capture: :all_but_first)
      patterns
    end

    defp random(type, shape, seed) do
      {numbers, _key} = Nx.Random.normal(Nx.Random.key(seed), shape: shape)
      Nx.as_type(numbers, type)
    end

    ## Softmax

    defn softmax(x) do
      exponential = Nx.exp(x - stop_grad(Nx.reduce_max(x, axes: [-1], keep_axes: true)))

      exponential
      |> Nx.sum(axes: [-1], keep_axes: true)
      |> then(&Nx.divide(1, &1))
      |> Nx.multiply(exponential)
    end

    defn softmax_of_new_axes(x) do
      exponential = Nx.exp(x - Nx.new_axis(Nx.reduce_max(x, axes: [-1]), -1))
      exponential / Nx.new_axis(Nx.sum(exponential, axes: [-1]), -1)
    end

    defn(plain_softmax(x), do: Nx.exp(x) / Nx.sum(Nx.exp(x), axes: [-1], keep_axes: true))

    defn(wide_softmax(x), do: x |> Nx.as_type(:f32) |> softmax() |> Nx.as_type(Nx.type(x)))

    defn(softmax_of_columns(x), do: Nx.exp(x) / Nx.sum(Nx.exp(x), axes: [0], keep_axes: true))

    test "softmax" do
      for type <- @types, x = random(type, {2, 5, 7}, 1) do
        for fun <- [&softmax/1, &softmax_of_new_axes/1, &plain_softmax/1, &wide_softmax/1],
            do: assert(patterns(fun, [x]) == "softmax 1")

        assert patterns(&softmax_of_columns/1, [x]) == "none"
      end

      assert patterns(&softmax/1, [random(:f32, {9}, 1)]) == "softmax 1"
      assert fired(&softmax/1, [Nx.template({2, 3}, :f64)]) == "none"
    end

    test "a tensor of vectors" do
      fun = fn x -> x |> Nx.vectorize(:rows) |> softmax() |> Nx.devectorize() end
      assert patterns(fun, [random(:f32, {3, 5}, 1)]) == "softmax 1"
    end

    ## Normalization

    defn layer_norm(x, gamma, beta) do
      gamma = Nx.reshape(gamma, {1, 1, Nx.axis_size(x, -1)})
      beta = Nx.reshape(beta, {1, 1, Nx.axis_size(x, -1)})
      mean = Nx.mean(x, axes: [-1], keep_axes: true)
      variance = Nx.variance(x, axes: [-1], keep_axes: true)
      gamma * Nx.rsqrt(variance + 1.0e-5) * (x - mean) + beta
    end

    defn layer_norm_by_division(x, gamma, beta) do
      centered = x - Nx.mean(x, axes: [-1], keep_axes: true)
      variance = Nx.mean(centered * centered, axes: [-1], keep_axes: true)
      centered / Nx.sqrt(variance + 1.0e-5) * gamma + beta
    end

    defn bare_layer_norm(x, _gamma, _beta) do
      centered = x - Nx.new_axis(Nx.mean(x, axes: [-1]), -1)
      centered * Nx.rsqrt(Nx.new_axis(Nx.variance(x, axes: [-1]), -1) + 1.0e-5)
    end

    test "layer normalization" do
      for type <- @types do
        arguments = [random(type, {2, 3, 8}, 1), random(type, {8}, 2), random(type, {8}, 3)]

        for fun <- [&layer_norm/3, &layer_norm_by_division/3, &bare_layer_norm/3],
            do: assert(patterns(fun, arguments) == "layer_norm 1")
      end
    end

    defnp normalized(x) do
      mean = Nx.mean(Nx.pow(x, 2), axes: [-1], keep_axes: true)
      x * Nx.rsqrt(mean + 1.0e-6)
    end

    defn rms_norm(x, weight) do
      x |> Nx.as_type(:f32) |> normalized() |> Nx.as_type(Nx.type(x)) |> Nx.multiply(weight)
    end

    # Of bf16 and f16, f32.
    defn(wide_rms_norm(x, weight),
      do: normalized(Nx.as_type(x, :f32)) * (1.0 + Nx.as_type(weight, :f32))
    )

    defn rms_norm_by_division(x, weight) do
      mean = Nx.mean(x * x, axes: [-1], keep_axes: true)
      weight * (x / Nx.sqrt(mean + 1.0e-6))
    end

    defn rms_norm_with_epsilon_outside(x, weight) do
      weight * x / (Nx.sqrt(Nx.mean(x * x, axes: [-1], keep_axes: true)) + 1.0e-3)
    end

    test "normalization by the root mean square" do
      for type <- @types do
        arguments = [random(type, {2, 3, 4, 8}, 1), random(type, {8}, 2)]

        for fun <- [&rms_norm/2, &wide_rms_norm/2, &rms_norm_by_division/2],
            do: assert(patterns(fun, arguments) == "rms_norm 1")

        assert patterns(&rms_norm_with_epsilon_outside/2, arguments) == "none"
      end
    end

    ## Activations

    defn(silu(x), do: x |> Nx.sigmoid() |> Nx.multiply(x))

    defn gelu(x) do
      root = Nx.sqrt(Nx.tensor(2, type: Nx.type(x)))
      x |> Nx.divide(root) |> Nx.erf() |> Nx.add(1) |> Nx.multiply(x) |> Nx.divide(2)
    end

    @pi :math.pi()
    defn gelu_tanh(x) do
      0.5 * x * (1.0 + Nx.tanh(Nx.sqrt(2.0 / @pi) * (x + 0.044715 * Nx.pow(x, 3.0))))
    end

    defn(quick_gelu(x), do: x * Nx.sigmoid(1.702 * x))

    test "activations" do
      for type <- @types, x = random(type, {3, 8}, 1), gate = random(type, {3, 8}, 2) do
        for fun <- [&silu/1, &gelu/1, &gelu_tanh/1] do
          assert patterns(fun, [x]) == "activation 1"

          assert patterns(fn x, gate -> Nx.multiply(gate, fun.(x)) end, [x, gate]) ==
                   "activation 1"

          assert patterns(fn x, gate -> Nx.multiply(fun.(x), gate) end, [x, gate]) ==
                   "activation 1"
        end

        assert patterns(&quick_gelu/1, [x]) == "none"
      end
    end

    ## Layers

    defn(dense(x, kernel, bias), do: x |> Nx.dot([-1], kernel, [0]) |> Nx.add(bias))

    test "dense layers" do
      for type <- @types do
        arguments = [random(type, {2, 3, 8}, 1), random(type, {8, 5}, 2), random(type, {5}, 3)]
        assert patterns(&dense/3, arguments) == "dot_add 1"
      end

      integers = [Nx.template({2, 3, 8}, :s32), Nx.template({8, 5}, :s32), Nx.template({5}, :s32)]
      assert fired(&dense/3, integers) == "none"
    end

    defn dequantized(x, weight) do
      matrix = Emily.Quantization.dequantize(weight)
      Nx.dot(Nx.dot(x, Nx.transpose(matrix)), Nx.transpose(Nx.transpose(matrix)))
    end

    defn(again(x, weight),
      do: Nx.sin(Nx.dot(x, [-1], Emily.Quantization.dequantize(weight), [1]))
    )

    test "products with dequantized matrices, as they are and in gradients" do
      for type <- @types, opts <- [[], [mode: :nvfp4]] do
        x = Nx.divide(random(type, {2, 3, 64}, 1), 8)
        weight = Emily.Quantization.quantize(random(type, {5, 64}, 2), opts)
        assert patterns(&again/2, [x, weight]) == "quantized_matmul 1"
        assert patterns(&dequantized/2, [x, weight]) == "none"

        # The matrix is needed for the gradient alone. Nx begins one with an f32.
        gradient = fn x, weight ->
          Nx.Defn.grad(
            x,
            &(&1 |> Emily.Quantization.quantized_matmul(weight) |> Nx.sin() |> Nx.sum())
          )
        end

        expected = if type == :f32, do: "quantized_matmul 1", else: "none"
        assert patterns(gradient, [x, weight]) == expected
      end
    end

    defn gated(x, weight, gate, up, down) do
      y = rms_norm(x, weight)
      x + Nx.dot(Nx.dot(y, [-1], up, [0]) * silu(Nx.dot(y, [-1], gate, [0])), [-1], down, [0])
    end

    test "a gated layer, as it is and in a loop" do
      weights = [{8}, {8, 6}, {8, 6}, {6, 8}]

      for type <- @types do
        weights =
          for {shape, seed} <- Enum.with_index(weights, 2),
              do: type |> random(shape, seed) |> Nx.divide(4) |> Nx.as_type(type)

        arguments = [random(type, {2, 3, 8}, 1) | weights]
        assert patterns(&gated/5, arguments) == "rms_norm 1, activation 1, dot_add 1"
        assert patterns(&repeated/5, arguments) == "rms_norm 1, activation 1, dot_add 1"
      end
    end

    defn repeated(x, weight, gate, up, down) do
      {_i, x, _, _, _, _} =
        while {i = 0, x, weight, gate, up, down}, i < 2 do
          {i + 1, gated(x, weight, gate, up, down), weight, gate, up, down}
        end

      x
    end

    ## Attention

    defn attention(query, key, value, mask) do
      [query, key, value] = heads_first(query, key, value)
      scores = Nx.dot(query, [3], [0, 1], key, [3], [0, 1])
      scores = scores * (1 / Nx.as_type(Nx.sqrt(Nx.axis_size(query, -1)), Nx.type(query)))
      least = Nx.Constants.min_finite(Nx.type(query))
      mask = mask |> Nx.new_axis(1) |> Nx.new_axis(1) |> Nx.logical_and(causal(query, key))
      bias = Nx.select(mask, Nx.tensor(0.0, type: Nx.type(query)), least)
      weights = softmax(scores + bias)
      Nx.transpose(Nx.dot(weights, [3], [0, 1], value, [2], [0, 1]), axes: [0, 2, 1, 3])
    end

    defnp(causal(query, key),
      do:
        Nx.greater_equal(Nx.iota({Nx.axis_size(query, 2), 1}), Nx.iota({1, Nx.axis_size(key, 2)}))
    )

    deftransformp(heads_first(query, key, value),
      do: for(x <- [query, key, value], do: Nx.transpose(x, axes: [0, 2, 1, 3]))
    )

    # Each head of keys and values for several of the query.
    defn(grouped_attention(query, key, value, mask),
      do: attention(query, repeated_heads(key, query), repeated_heads(value, query), mask)
    )

    deftransformp repeated_heads(x, query) do
      times = div(Nx.axis_size(query, 2), Nx.axis_size(x, 2))
      x |> Nx.new_axis(3) |> Nx.tile([1, 1, 1, times, 1]) |> Nx.flatten(axes: [2, 3])
    end

    # With the keys' axes in another order, the scale on the query, and scores replaced where nothing is to be seen.
    defn written_out_attention(query, key, value, mask) do
      query = Nx.transpose(query / 4, axes: [0, 2, 1, 3])
      scores = Nx.dot(query, [3], [0, 1], Nx.transpose(key, axes: [0, 2, 3, 1]), [2], [0, 1])
      seen = mask |> Nx.new_axis(1) |> Nx.new_axis(1) |> Nx.broadcast(Nx.shape(scores))
      weights = softmax_of_new_axes(Nx.select(seen, scores, -1.0e4))
      Nx.dot(weights, [3], [0, 1], Nx.transpose(value, axes: [0, 2, 1, 3]), [2], [0, 1])
    end

    defn wide_attention(query, key, value, mask) do
      [query, key, value] = heads_first(query, key, value)
      scores = Nx.as_type(Nx.dot(query, [3], [0, 1], key, [3], [0, 1]), :f32) / 4
      hidden = Nx.select(mask, 0.0, Nx.Constants.min_finite(:f32))
      weights = softmax(scores + Nx.new_axis(Nx.new_axis(hidden, 1), 1))
      Nx.dot(Nx.as_type(weights, Nx.type(query)), [3], [0, 1], value, [2], [0, 1])
    end

    # The second sequence has padding at its end.
    @seen [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]

    defp sides(type, heads) do
      [query, key, value] =
        for {heads, seed} <- [{4, 1}, {heads, 2}, {heads, 3}],
            do: random(type, {2, 5, heads, 8}, seed)

      [query, key, value, Nx.tensor(@seen, type: :u8)]
    end

    test "attention" do
      for type <- @types do
        for fun <- [&attention/4, &written_out_attention/4, &wide_attention/4],
            do: assert(patterns(fun, sides(type, 4)) == "attention 1")

        for heads <- [1, 2] do
          arguments = sides(type, heads)
          assert patterns(&grouped_attention/4, arguments) == "attention 1"
          templates = Enum.map(arguments, &Nx.to_template/1)
          refute Compiler.explain(&grouped_attention/4, templates) =~ ~r/^after: .* broadcast/m
        end
      end
    end

    test "attention of queries that may look nowhere is finite, as without the pattern" do
      [query, key, value, _mask] = sides(:f32, 4)
      nothing = Nx.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], type: :u8)

      for fun <- [&attention/4, &written_out_attention/4], passes <- [:all, :exact] do
        result = run(fun, [query, key, value, nothing], passes)
        assert Nx.to_number(Nx.any(Nx.is_nan(result))) == 0
      end
    end

    defn attention_and_weights(query, key, value) do
      weights = softmax(Nx.dot(query, [2], [0], key, [2], [0]))
      {Nx.dot(weights, [2], [0], value, [1], [0]), weights}
    end

    test "weights that are a result stay" do
      arguments = for seed <- 1..3, do: random(:f32, {2, 5, 8}, seed)
      assert patterns(&attention_and_weights/3, arguments) == "softmax 1"

      first = fn query, key, value -> elem(attention_and_weights(query, key, value), 0) end
      assert patterns(first, arguments) == "attention 1"
    end

    ## Positions

    defn rotated(query, key, positions) do
      half = div(Nx.axis_size(query, -1), 2)
      frequencies = 1.0 / Nx.pow(10_000, Nx.iota({half}) * 2 / (2 * half))
      angles = Nx.outer(Nx.iota({16}), frequencies)
      angles = Nx.concatenate([angles, angles], axis: -1)
      [cosines, sines] = tables(angles, positions, query)

      {query * cosines + turned(query) * sines, key * cosines + turned(key) * sines}
    end

    deftransformp tables(angles, positions, query) do
      for table <- [Nx.cos(angles), Nx.sin(angles)],
          do: table |> Nx.take(positions) |> Nx.new_axis(2) |> Nx.as_type(Nx.type(query))
    end

    defnp turned(x) do
      half = div(Nx.axis_size(x, -1), 2)
      first = Nx.slice_along_axis(x, 0, half, axis: -1)
      second = Nx.slice_along_axis(x, half, half, axis: -1)
      Nx.concatenate([-second, first], axis: -1)
    end

    test "rotary embeddings of queries and keys" do
      for type <- @types do
        arguments = [random(type, {2, 5, 4, 8}, 1), random(type, {2, 5, 2, 8}, 2)]
        positions = Nx.tensor([[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]])
        assert patterns(&rotated/3, arguments ++ [positions]) == "rotary_embedding 2"
      end
    end

    defn(normalized_and_rotated(query, key, positions, weight),
      do: rotated(rms_norm(query, weight), rms_norm(key, weight), positions)
    )

    test "rotary embeddings of what is normalized by head" do
      for type <- @types do
        arguments = [random(type, {2, 5, 4, 8}, 1), random(type, {2, 5, 2, 8}, 2)]
        arguments = arguments ++ [Nx.iota({2, 5}, axis: 1), random(type, {8}, 3)]
        assert patterns(&normalized_and_rotated/4, arguments) == "rms_norm 2, rotary_embedding 2"

        templates = Enum.map(arguments, &Nx.to_template/1)
        text = Compiler.explain(&normalized_and_rotated/4, templates)
        assert text =~ ~r/^after: .*2 rms_norm_rotary_embedding/m
      end
    end

    test "what else is needed stays" do
      fun = fn x ->
        sigmoid = Nx.sigmoid(x)
        {Nx.multiply(x, sigmoid), sigmoid}
      end

      assert patterns(fun, [random(:f32, {3, 4}, 1)]) == "none"
    end

    test "gradients are those of the formula" do
      x = random(:f32, {3, 4}, 1)
      fun = fn x -> Nx.Defn.grad(x, &Nx.sum(Nx.multiply(softmax(&1), silu(&1)))) end
      patterns(fun, [x])
    end

    test "a pass of a pattern can be turned off by name" do
      templates = [Nx.template({3, 4}, :f32)]
      passes = Emily.Native.program_passes() -- [:softmax]
      assert Compiler.explain(&softmax/1, templates, passes: passes) =~ "\npatterns: none\n"
      assert Compiler.explain(&softmax/1, templates, passes: :exact) =~ "\npatterns: none\n"

      assert Compiler.explain(&softmax/1, templates, passes: [:softmax]) =~
               "\npatterns: softmax 1\n"
    end
  end
end
