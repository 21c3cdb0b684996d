if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.SmallTransformer do
    @moduledoc """
    A decoder of a language model as they are built today, of any size and with random weights: RMS norms, rotary
    embeddings, heads that share keys and values, and gates.
    """

    import Nx.Defn

    alias Emily.{Fast, Generation}
    alias Emily.Generation.Cache

    @doc "Sizes; those that are not given are tiny."
    def size(sizes \\ []) do
      Map.merge(
        %{layers: 2, hidden: 32, heads: 4, shared: 2, vocabulary: 50, seed: 1},
        Map.new(sizes)
      )
    end

    @doc "Random weights, of `:f32`."
    def params(size) do
      %{hidden: hidden, heads: heads, shared: shared} = size
      few = div(hidden, heads) * shared

      {blocks, key} =
        Enum.map_reduce(1..size.layers, Nx.Random.key(size.seed), fn _layer, key ->
          random(key,
            query: {hidden, hidden},
            key: {hidden, few},
            value: {hidden, few},
            out: {hidden, hidden},
            gate: {hidden, 3 * hidden},
            up: {hidden, 3 * hidden},
            down: {3 * hidden, hidden}
          )
        end)

      {ends, _key} = random(key, embedding: {size.vocabulary, hidden})
      Map.put(ends, :blocks, List.to_tuple(blocks))
    end

    # So wide that the model has opinions, and texts do not become one token for ever.
    defp random(key, shapes) do
      Enum.map_reduce(shapes, key, fn {name, shape}, key ->
        spread = 1.5 / :math.sqrt(elem(shape, 0))
        {weights, key} = Nx.Random.normal(key, 0.0, spread, shape: shape, type: :f32)
        {{name, weights}, key}
      end)
      |> then(fn {weights, key} -> {Map.new(weights), key} end)
    end

    @doc "The cache's options for the model."
    def cache(size, options \\ []) do
      [layers: size.layers, heads: size.shared, head_size: div(size.hidden, size.heads)] ++
        Keyword.merge([type: :f32, step: 16], options)
    end

    @doc "A generation of it, with `cache:` options beside those of the size."
    def generation(size, options \\ []) do
      {cache, options} = Keyword.pop(options, :cache, [])
      options = Keyword.merge([cache: cache(size, cache), prefill_chunk: 8], options)
      Generation.new(forward(size), params(size), options)
    end

    @doc "The model's function for the driver."
    def forward(size) do
      fn params, tokens, cache ->
        attend = fn layer, query, key, value, cache ->
          Cache.attention(cache, layer, query, key, value)
        end

        {logits, cache} = run(size, params, tokens, Cache.positions(cache), cache, attend)
        {logits, Cache.advance(cache, Nx.axis_size(tokens, 1))}
      end
    end

    @doc "The logits of `{1, length}` tokens, without any cache."
    def logits(size, params, tokens) do
      attend = fn _layer, query, key, value, {} ->
        {Fast.scaled_dot_product_attention(query, key, value, causal: true), {}}
      end

      {logits, {}} = run(size, params, tokens, 0, {}, attend)
      logits
    end

    @doc "The `count` likeliest tokens after `prompt`, with all computed anew for each."
    def continued(size, params, prompt, count, options \\ [compiler: Emily.Compiler]) do
      length = length(prompt) + count
      # One length for all of them: what follows changes nothing of what was before.
      logits = Nx.Defn.jit(fn params, tokens -> logits(size, params, tokens) end, options)

      Enum.reduce(1..count, prompt, fn _, tokens ->
        padded = tokens ++ List.duplicate(0, length - length(tokens))
        row = logits.(params, Nx.tensor([padded], type: :s32))[[0, length(tokens) - 1]]
        tokens ++ [row |> Nx.argmax() |> Nx.to_number()]
      end)
      |> Enum.drop(length(prompt))
    end

    defp run(size, params, tokens, position, state, attend) do
      x = Nx.take(params.embedding, tokens)

      {x, state} =
        params.blocks
        |> Tuple.to_list()
        |> Enum.with_index()
        |> Enum.reduce({x, state}, fn {block, layer}, {x, state} ->
          attend = fn query, key, value -> attend.(layer, query, key, value, state) end
          block(x, block, position, attend, heads: size.heads, shared: size.shared)
        end)

      {Nx.dot(norm(x), [2], params.embedding, [1]), state}
    end

    deftransformp block(x, params, position, attend, opts) do
      y = norm(x)
      query = y |> Nx.dot(params.query) |> split(opts[:heads]) |> Fast.rope(position)
      key = y |> Nx.dot(params.key) |> split(opts[:shared]) |> Fast.rope(position)
      value = y |> Nx.dot(params.value) |> split(opts[:shared])
      {seen, state} = attend.(query, key, value)
      x = seen |> join() |> Nx.dot(params.out) |> Nx.add(x)
      {Nx.add(x, gated(norm(x), params)), state}
    end

    defnp gated(x, params) do
      gate = Nx.dot(x, params.gate)
      Nx.dot(gate * Nx.sigmoid(gate) * Nx.dot(x, params.up), params.down)
    end

    deftransformp norm(x) do
      Fast.rms_norm(x, Nx.broadcast(Nx.tensor(1.0), {Nx.axis_size(x, -1)}))
    end

    deftransformp split(x, heads) do
      {batch, length, size} = Nx.shape(x)

      x
      |> Nx.reshape({batch, length, heads, div(size, heads)})
      |> Nx.transpose(axes: [0, 2, 1, 3])
    end

    deftransformp join(x) do
      {batch, heads, length, size} = Nx.shape(x)
      x |> Nx.transpose(axes: [0, 2, 1, 3]) |> Nx.reshape({batch, length, heads * size})
    end
  end
end
