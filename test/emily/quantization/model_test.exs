if Code.ensure_loaded?(Nx) do
  defmodule Emily.Quantization.ModelTest do
    use ExUnit.Case, async: true

    alias Emily.{Fast, Quantization, QuantizedWeight}

    @moduletag :nx
    @moduletag :native

    # A small decoder: two layers of attention and a gated network, an embedding that also gives the logits.
    @width 128
    @heads 4
    @vocabulary 96
    @positions 7

    # How far logits may be from those of the dequantized model, as a fraction of their spread. MLX's products on a CPU are
    # sums in the tensor's own type, of 128 to 256 numbers here.
    @distance %{f32: 1.0e-5, f16: 4.0e-2, bf16: 0.25}

    setup_all do
      Nx.default_backend(Emily.Backend)
      %{matrices: Nx.Defn.jit_apply(&matrices/0, [], compiler: Emily.Compiler)}
    end

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    defp matrices do
      layer = [q: 128, k: 128, v: 128, o: 128, gate: 256, up: 256, down: {128, 256}]

      shapes =
        for(at <- 0..1, {name, rows} <- layer, do: {{at, name}, rows}) ++
          [{:embedding, @vocabulary}]

      for {{name, rows}, seed} <- Enum.with_index(shapes), into: %{} do
        {rows, columns} = if is_tuple(rows), do: rows, else: {rows, @width}
        {matrix, _key} = Nx.Random.normal(Nx.Random.key(seed), shape: {rows, columns}, type: :f32)
        {name, Nx.divide(matrix, :math.sqrt(columns))}
      end
    end

    defp parameters(matrices, type),
      do: Map.new(matrices, fn {name, matrix} -> {name, Nx.as_type(matrix, type)} end)

    defp logits(parameters, tokens) do
      x = parameters.embedding |> rows(tokens) |> Nx.multiply(4)
      x = Enum.reduce(0..1, x, &layer(&2, parameters, &1))
      x |> normalized() |> linear(parameters.embedding)
    end

    defp layer(x, parameters, at) do
      part = fn x, name -> linear(x, parameters[{at, name}]) end
      y = normalized(x)
      [q, k, v] = for name <- [:q, :k, :v], do: y |> part.(name) |> heads()
      attended = Fast.scaled_dot_product_attention(turned(q), turned(k), v, causal: true)

      attended =
        attended |> Nx.transpose(axes: [0, 2, 1, 3]) |> Nx.reshape({1, @positions, @width})

      x = Nx.add(x, part.(attended, :o))
      y = normalized(x)
      gate = part.(y, :gate)

      Nx.add(
        x,
        gate |> Nx.multiply(Nx.sigmoid(gate)) |> Nx.multiply(part.(y, :up)) |> part.(:down)
      )
    end

    defp linear(x, %QuantizedWeight{} = weight), do: Quantization.quantized_matmul(x, weight)
    defp linear(x, matrix), do: Nx.dot(x, [-1], matrix, [1])
    defp rows(%QuantizedWeight{} = weight, tokens), do: Quantization.take(weight, tokens)
    defp rows(matrix, tokens), do: Nx.take(matrix, tokens)
    defp normalized(x), do: Fast.rms_norm(x, Nx.broadcast(Nx.tensor(1.0, type: x.type), {@width}))
    defp turned(x), do: Fast.rope(x, 0)

    defp heads(x) do
      x
      |> Nx.reshape({1, @positions, @heads, div(@width, @heads)})
      |> Nx.transpose(axes: [0, 2, 1, 3])
    end

    defp distance(a, b) do
      [a, b] = for x <- [a, b], do: x |> Nx.backend_copy(Nx.BinaryBackend) |> Nx.as_type(:f64)
      furthest = a |> Nx.subtract(b) |> Nx.abs() |> Nx.reduce_max()
      Nx.to_number(Nx.divide(furthest, Nx.standard_deviation(b)))
    end

    defp compiled(parameters, tokens) do
      Nx.Defn.jit_apply(&logits/2, [parameters, tokens],
        compiler: Emily.Compiler,
        native_fallback: :raise
      )
    end

    test "a quantized model's logits are near those of its dequantized form", %{
      matrices: matrices
    } do
      tokens = Nx.tensor([[3, 1, 4, 1, 5, 92, 6]])

      for type <- [:f32, :f16, :bf16],
          opts <- [
            [bits: 4, group_size: 32],
            [bits: 3],
            [bits: 8],
            [mode: :mxfp4],
            [mode: :nvfp4]
          ] do
        quantized =
          matrices
          |> parameters(type)
          |> Map.new(fn {name, x} -> {name, Quantization.quantize(x, opts)} end)

        plain =
          Map.new(quantized, fn {name, weight} -> {name, Quantization.dequantize(weight)} end)

        logits = compiled(quantized, tokens)

        assert {logits.shape, logits.type} ==
                 {{1, @positions, @vocabulary}, Nx.Type.normalize!(type)}

        distance = distance(logits, compiled(plain, tokens))
        assert distance <= @distance[type], inspect({type, opts, distance})
      end
    end

    test "more bits are nearer to the model that was quantized", %{matrices: matrices} do
      tokens = Nx.tensor([[3, 1, 4, 1, 5, 92, 6]])
      expected = compiled(matrices, tokens)

      distances =
        for bits <- [2, 3, 4, 5, 6, 8] do
          quantized =
            Map.new(matrices, fn {name, x} -> {name, Quantization.quantize(x, bits: bits)} end)

          distance(compiled(quantized, tokens), expected)
        end

      assert distances == Enum.sort(distances, :desc)
      assert List.last(distances) < 0.1
    end
  end
end
