if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CacheTest do
    use ExUnit.Case, async: true

    import Emily.Test.CachedText
    import Nx.Defn

    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native

    @query_heads 4
    @features 6

    doctest Cache

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    describe "a growing cache" do
      test "gives what all positions at once give, however they are divided" do
        for {seed, run} <- [{1, &apply/2}, {2, &evaluated/2}, {3, &compiled/2}, {4, &donated/2}] do
          text = text(2, 40, seed: seed)
          {out, cache} = chunked(text, new(batch: 2), sizes(40, seed), run)
          assert_near(out, whole(text, &causal/3))
          assert Nx.to_number(Cache.length(cache)) == 40
          assert Cache.capacity(cache) == 40
        end
      end

      test "takes a scale, sinks, a window, and values of another size" do
        text = text(1, 12, value_size: 4)
        sinks = random({@query_heads}, 9)
        opts = [scale: 0.7, sinks: sinks]

        {out, _cache} =
          chunked(text, new(value_size: 4), [5, 1, 4, 2], &evaluated/2, [window: 3] ++ opts)

        assert_near(out, whole(text, fn _row, q, k -> k in (q - 2)..q end, opts))
      end

      test "hides each row's padding, and counts positions after it" do
        text = text(3, 14)
        starts = [0, 3, 7]
        cache = new(batch: 3) |> Cache.pad(starts)
        seen = fn row, q, k -> (k <= q and k >= Enum.at(starts, row)) or k == q end

        for run <- [&evaluated/2, &donated/2] do
          {out, cache} = chunked(text, cache, [9, 1, 1, 3], run)
          assert_near(out, whole(text, seen))
          assert Nx.to_flat_list(Cache.positions(cache)) == [14, 11, 7]

          # The row alone, from its first position on, with no padding.
          alone = text |> Tuple.to_list() |> Enum.map(& &1[[1..1, .., 3..13]]) |> List.to_tuple()
          {expected, _cache} = chunked(alone, new(batch: 1), [11])
          assert_near(out[[1..1, .., 3..13]], expected)
        end
      end

      test "is trimmed and continued in another way" do
        {text, other} = {text(1, 12), text(1, 12, seed: 50)}
        {_out, cache} = chunked(text, new([]), [12])

        for count <- [5, Nx.tensor(5), Nx.tensor(5, type: :u8)] do
          trimmed = evaluated(&Cache.trim/2, [cache, count])
          assert Nx.to_number(Cache.length(trimmed)) == 7

          both =
            for {x, y} <- Enum.zip(Tuple.to_list(text), Tuple.to_list(other)) do
              Nx.concatenate([x[[.., .., 0..6]], y[[.., .., 7..11]]], axis: 2)
            end

          [query, key, value] = part(other, 7, 5)
          {out, _cache} = step(trimmed, query, key, value, [])
          expected = whole(List.to_tuple(both), &causal/3)
          assert_near(out, expected[[.., .., 7..11]])
        end

        assert cache |> Cache.trim(100) |> Cache.length() |> Nx.to_number() == 0
      end

      test "has few capacities" do
        small = Cache.new(layers: 1, heads: 1, head_size: 1, step: 2)
        grown = fn room -> small |> Cache.grow(room, length: 0) |> Cache.capacity() end
        capacities = for room <- 1..200, do: {room, grown.(room)}

        assert capacities |> Enum.map(&div(elem(&1, 1), 2)) |> Enum.uniq() ==
                 [
                   1,
                   2,
                   3,
                   4,
                   5,
                   6,
                   7,
                   8,
                   10,
                   12,
                   14,
                   16,
                   20,
                   24,
                   28,
                   32,
                   40,
                   48,
                   56,
                   64,
                   80,
                   96,
                   112
                 ]

        for {room, capacity} <- capacities, do: assert(capacity in room..(div(room * 5, 4) + 2))

        cache = new([])
        assert Cache.grow(cache, 8) == cache
        assert cache |> Cache.advance(3) |> Cache.grow(6) |> Cache.capacity() == 16
      end

      test "holds what it is given in its type" do
        # Backends differ in how they round, and need not.
        narrow = for x <- part(text(1, 4), 0, 4), do: Nx.as_type(x, :bf16)
        [query, key, value] = for x <- narrow, do: Nx.as_type(x, :f32)
        cache = new(type: :bf16)
        {out, cache} = compiled(&step(&1, &2, &3, &4, []), [cache, query, key, value])
        assert Nx.type(out) == {:f, 32}
        assert for(%{keys: keys} <- Tuple.to_list(cache.layers), do: Nx.type(keys)) == [{:bf, 16}]
        expected = whole({query, key, value}, &causal/3)
        assert_near(Nx.backend_copy(out, Nx.BinaryBackend), expected)
      end
    end

    test "all layers of a kind share one mask" do
      cache = new(layers: 3)
      arguments = [cache | part(text(1, 2), 0, 2)]

      fun = fn cache, query, key, value ->
        Enum.map_reduce(0..2, cache, &Cache.attention(&2, &1, query, key, value))
        |> elem(0)
        |> List.to_tuple()
      end

      [_before, summary | _rest] = Emily.Compiler.explain(fun, arguments) |> String.split("\n")
      assert summary =~ "3 attention"
      assert summary =~ "1 less_equal"
    end

    defn looped(cache, query, key, value) do
      out = Nx.broadcast(0.0, Nx.shape(query))

      {_at, cache, out, _all} =
        while {at = 0, cache, out, all = {query, key, value}}, at < Nx.axis_size(query, 2) do
          {query, key, value} = all
          [query, key, value] = parts(at, query, key, value)
          {part, cache} = Cache.attention(cache, 0, query, key, value)
          {at + 1, Cache.advance(cache, 1), Nx.put_slice(out, [0, 0, at, 0], part), all}
        end

      {out, cache}
    end

    deftransformp parts(at, query, key, value) do
      for x <- [query, key, value], do: Nx.slice_along_axis(x, at, 1, axis: 2)
    end

    test "a loop carries caches of all kinds" do
      {query, key, value} = text = text(1, 12)

      for {kind, visible} <- [{:growing, &causal/3}, {{:rotating, 5, 2}, rotating(5, 2)}] do
        cache = new(kind: kind, capacity: 16)

        for run <- [&compiled/2, &evaluated/2] do
          {out, cache} = run.(&looped/4, [cache, query, key, value])
          assert_near(Nx.backend_copy(out, Nx.BinaryBackend), whole(text, visible))
          assert Nx.to_number(Cache.length(cache)) == 12
        end
      end
    end

    test "copies have memory of their own" do
      cache = Nx.backend_copy(new([]), Emily.Backend)
      [query, key, value] = part(text(1, 1), 0, 1)
      {_out, cache} = compiled(&step(&1, &2, &3, &4, []), [cache, query, key, value])
      copy = Cache.copy(cache)

      {_out, _cache} =
        compiled(&step(&1, &2, &3, &4, []), [Nx.donatable(cache), query, key, value])

      assert_raise ArgumentError, fn -> Nx.to_binary(elem(cache.layers, 0).keys) end
      {out, _copy} = compiled(&step(&1, &2, &3, &4, []), [copy, query, key, value])
      assert Nx.shape(out) == {1, @query_heads, 1, @features}
    end
  end
end
