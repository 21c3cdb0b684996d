if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CachedModelTest do
    # A small language model, with a cache and without: what one layer does not remember, the next one misses.
    use ExUnit.Case, async: true

    alias Emily.Fast
    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native

    @layers 3
    @heads 4
    @groups 2
    @features 8
    @width 32
    @vocabulary 50

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp random(shape, seed) do
      {x, _key} = Nx.Random.normal(Nx.Random.key(seed), 0.0, 0.3, shape: shape, type: :f32)
      x
    end

    defp params do
      layers =
        for layer <- 1..@layers do
          %{
            query: random({@width, @heads * @features}, layer * 10),
            key: random({@width, @groups * @features}, layer * 10 + 1),
            value: random({@width, @groups * @features}, layer * 10 + 2),
            out: random({@heads * @features, @width}, layer * 10 + 3),
            up: random({@width, @width}, layer * 10 + 4)
          }
        end

      %{layers: List.to_tuple(layers), embedding: random({@vocabulary, @width}, 1)}
    end

    # `attend` is given the layer's number, query, key, value and what it returned before.
    defp model(params, tokens, acc, offset, attend) do
      x = Nx.take(params.embedding, tokens)
      ones = Nx.broadcast(1.0, {@width})

      {x, acc} =
        for layer <- 0..(@layers - 1), reduce: {x, acc} do
          {x, acc} ->
            weights = elem(params.layers, layer)
            normal = Fast.rms_norm(x, ones)
            query = normal |> heads(weights.query, @heads) |> Fast.rope(offset)
            key = normal |> heads(weights.key, @groups) |> Fast.rope(offset)
            {out, acc} = attend.(layer, query, key, heads(normal, weights.value, @groups), acc)

            x =
              Nx.add(x, out |> Nx.transpose(axes: [0, 2, 1, 3]) |> flat() |> Nx.dot(weights.out))

            {Nx.add(x, x |> Fast.rms_norm(ones) |> Nx.dot(weights.up) |> Nx.tanh()), acc}
        end

      {x |> Fast.rms_norm(ones) |> Nx.dot(Nx.transpose(params.embedding)), acc}
    end

    defp heads(x, weight, count) do
      {batch, positions, _width} = Nx.shape(x)

      x
      |> Nx.dot(weight)
      |> Nx.reshape({batch, positions, count, @features})
      |> Nx.transpose(axes: [0, 2, 1, 3])
    end

    defp flat(x) do
      {batch, positions, heads, features} = Nx.shape(x)
      Nx.reshape(x, {batch, positions, heads * features})
    end

    defp cached(params, tokens, cache) do
      {logits, cache} =
        model(params, tokens, cache, Cache.positions(cache), fn layer, query, key, value, cache ->
          Cache.attention(cache, layer, query, key, value)
        end)

      {logits, Cache.advance(cache, Nx.axis_size(tokens, 1))}
    end

    # All positions at once; `seen` says which earlier ones a layer attends to.
    defp whole(params, tokens, seen) do
      count = Nx.axis_size(tokens, 1)

      {logits, nil} =
        model(params, tokens, nil, 0, fn layer, query, key, value, nil ->
          mask =
            for q <- 0..(count - 1),
                do:
                  for(k <- 0..(count - 1), do: if(k <= q and seen.(layer, q, k), do: 1, else: 0))

          {Fast.scaled_dot_product_attention(query, key, value, mask: Nx.tensor(mask, type: :u8)),
           nil}
        end)

      logits
    end

    defp run(params, tokens, cache, sizes, options) do
      {parts, _state} =
        Enum.map_reduce(sizes, {cache, 0}, fn size, {cache, at} ->
          cache = Cache.grow(cache, size, length: at)
          part = Nx.slice_along_axis(tokens, at, size, axis: 1)
          cache = if options[:compiler] == Emily.Compiler, do: Nx.donatable(cache), else: cache
          {logits, cache} = Nx.Defn.jit_apply(&cached/3, [params, part, cache], options)
          {Nx.backend_copy(logits, Nx.BinaryBackend), {cache, at + size}}
        end)

      Nx.concatenate(parts, axis: 1)
    end

    defp assert_near(given, expected) do
      difference = given |> Nx.subtract(expected) |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()
      assert is_number(difference) and difference < 1.0e-3, inspect(difference)
    end

    @kinds [
      {:growing, [true, true, true]},
      {{:rotating, 6, 2}, [{6, 2}, {6, 2}, {6, 2}]},
      {[{:rotating, 4, 0}, :growing, {:rotating, 5, 0, 2}], [{4, 0}, true, {5, 0}]}
    ]

    test "logits are those of all positions at once, with every kind of cache" do
      params = params()
      {tokens, _key} = Nx.Random.randint(Nx.Random.key(5), 0, @vocabulary, shape: {2, 24})

      for {kind, windows} <- @kinds,
          compiler <- [Emily.Compiler, Nx.Defn.Evaluator],
          # Once is enough for what takes long.
          compiler == Emily.Compiler or is_list(kind) do
        cache =
          Cache.new(
            layers: @layers,
            heads: @groups,
            head_size: @features,
            batch: 2,
            type: :f32,
            step: 8,
            kind: kind
          )

        seen = fn layer, q, k ->
          case Enum.at(windows, layer) do
            true -> true
            {window, keep} -> k < keep or k > q - (window - keep)
          end
        end

        given = run(params, tokens, cache, [9, 1, 1, 1, 7, 1, 4], compiler: compiler)
        assert_near(given, whole(params, tokens, seen))
      end
    end

    test "logits of padded rows are those of the rows alone" do
      params = params()
      {tokens, _key} = Nx.Random.randint(Nx.Random.key(6), 0, @vocabulary, shape: {2, 20})

      for kind <- [:growing, {:rotating, 5, 0}] do
        new =
          &Cache.new(
            layers: @layers,
            heads: @groups,
            head_size: @features,
            batch: &1,
            type: :f32,
            step: 8,
            kind: kind
          )

        padded = Cache.pad(new.(2), [0, 6])
        given = run(params, tokens, padded, [11, 1, 1, 5, 2], compiler: Emily.Compiler)
        alone = run(params, tokens[[1..1, 6..19]], new.(1), [3, 10, 1], compiler: Emily.Compiler)
        assert_near(given[[1..1, 6..19]], alone)
        first = run(params, tokens[0..0], new.(1), [20], compiler: Emily.Compiler)
        assert_near(given[0..0], first)
      end
    end
  end
end
