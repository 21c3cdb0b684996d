if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.CachedText do
    @moduledoc "Queries, keys and values of some positions, and what attention to them gives with a cache and without."

    import ExUnit.Assertions

    alias Emily.Fast
    alias Emily.Generation.Cache

    @heads 2
    @query_heads 4
    @features 6

    @doc "Normally distributed numbers."
    def random(shape, seed, type \\ :f32) do
      {x, _key} = Nx.Random.normal(Nx.Random.key(seed), shape: shape, type: :f32)
      Nx.as_type(x, type)
    end

    @doc "Query, key and value."
    def text(batch, positions, opts \\ []) do
      seed = Keyword.get(opts, :seed, 1)
      features = Keyword.get(opts, :head_size, @features)
      value_features = Keyword.get(opts, :value_size, features)

      {random({batch, @query_heads, positions, features}, seed),
       random({batch, @heads, positions, features}, seed + 1),
       random({batch, @heads, positions, value_features}, seed + 2)}
    end

    @doc "An empty cache for them."
    def new(opts) do
      [layers: 1, heads: @heads, head_size: @features, type: :f32, step: 8]
      |> Keyword.merge(opts)
      |> Cache.new()
    end

    @doc "What positions give that are computed at once, where `visible` says which sees which."
    def whole({query, key, value}, visible, opts \\ []) do
      count = Nx.axis_size(query, 2)
      batch = Nx.axis_size(query, 0)

      mask =
        for row <- 0..(batch - 1) do
          [
            for(
              q <- 0..(count - 1),
              do: for(k <- 0..(count - 1), do: if(visible.(row, q, k), do: 1, else: 0))
            )
          ]
        end

      opts = [mask: Nx.tensor(mask, type: :u8)] ++ opts
      Fast.scaled_dot_product_attention(query, key, value, opts)
    end

    @doc "Some positions of query, key and value."
    def part(text, from, count) do
      text |> Tuple.to_list() |> Enum.map(&Nx.slice_along_axis(&1, from, count, axis: 2))
    end

    @doc "Stores, attends and advances."
    def step(cache, query, key, value, opts) do
      {out, cache} = Cache.attention(cache, 0, query, key, value, opts)
      {out, Cache.advance(cache, Nx.axis_size(query, 2))}
    end

    @doc "What they give in chunks of these sizes, and the cache."
    def chunked(text, cache, sizes, run \\ &apply/2, opts \\ []) do
      {outs, {cache, _at}} =
        Enum.map_reduce(sizes, {cache, 0}, fn size, {cache, at} ->
          cache = Cache.grow(cache, size, length: at)
          {out, cache} = run.(&step(&1, &2, &3, &4, opts), [cache | part(text, at, size)])
          {out, {cache, at + size}}
        end)

      {outs |> Enum.map(&Nx.backend_copy(&1, Nx.BinaryBackend)) |> Nx.concatenate(axis: 2), cache}
    end

    @doc "What the function gives when it is compiled."
    def compiled(fun, arguments),
      do: Nx.Defn.jit_apply(fun, arguments, compiler: Emily.Compiler, native_fallback: :raise)

    @doc "The same, with a cache that is donated."
    def donated(fun, [cache | others]), do: compiled(fun, [Nx.donatable(cache) | others])

    @doc "What it gives when it is evaluated."
    def evaluated(fun, arguments),
      do: Nx.Defn.jit_apply(fun, arguments, compiler: Nx.Defn.Evaluator)

    @doc "Asserts that no element is farther away."
    def assert_near(given, expected, tolerance \\ 1.0e-5) do
      difference = given |> Nx.subtract(expected) |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()
      assert is_number(difference) and difference < tolerance, inspect(difference)
    end

    @doc "Whether a query sees a key."
    def causal(_row, q, k), do: k <= q

    @doc "The same in a rotating cache."
    def rotating(window, keep) do
      fn _row, q, k -> k <= q and (k < keep or k > q - (window - keep)) end
    end

    @doc "Sizes of chunks that make `count` positions, other ones for each seed."
    def sizes(count, seed) do
      :rand.seed(:exsss, {seed, 0, 0})

      Stream.repeatedly(fn -> Enum.random([1, 1, 1, 2, 3, 5, 9]) end)
      |> Enum.reduce_while([], fn size, sizes ->
        left = count - Enum.sum(sizes)
        if size >= left, do: {:halt, [left | sizes]}, else: {:cont, [size | sizes]}
      end)
    end
  end
end
