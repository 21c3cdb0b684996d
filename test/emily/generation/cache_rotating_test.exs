if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CacheRotatingTest do
    use ExUnit.Case, async: true

    import Emily.Test.CachedText

    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    describe "a rotating cache" do
      test "gives what a window of all positions gives, however they are divided" do
        for {window, keep, spare} <- [
              {8, 0, 0},
              {8, 3, 0},
              {5, 4, 0},
              {1, 0, 0},
              {6, 2, 3},
              {100, 3, 0}
            ],
            {seed, run} <- [{1, &evaluated/2}, {2, &donated/2}, {3, &compiled/2}] do
          text = text(1, 40, seed: seed)
          cache = new(kind: {:rotating, window, keep, spare})
          {out, cache} = chunked(text, cache, sizes(40, seed + window), run)
          assert_near(out, whole(text, rotating(window, keep)))
          assert Cache.capacity(cache) == :infinity
        end
      end

      test "takes a narrower window, and pads" do
        text = text(2, 20)
        cache = new(batch: 2, kind: {:rotating, 8, 0}) |> Cache.pad([0, 4])
        first = [0, 4]

        seen = fn row, q, k ->
          (k <= q and k > q - 5 and k >= Enum.at(first, row)) or k == q
        end

        {out, _cache} = chunked(text, cache, [11, 1, 2, 1, 5], &compiled/2, window: 5)
        assert_near(out, whole(text, seen))
      end

      test "is trimmed where nothing that is needed was overwritten" do
        text = text(1, 30)

        # Within the window, whatever is trimmed.
        {_out, cache} = chunked(text, new(kind: {:rotating, 8, 2}), [8])
        cache = Cache.trim(cache, 6)

        {out, _cache} =
          step(
            cache,
            Enum.at(part(text, 2, 1), 0),
            Enum.at(part(text, 2, 1), 1),
            Enum.at(part(text, 2, 1), 2),
            []
          )

        assert_near(out, whole(text, rotating(8, 2))[[.., .., 2..2]])

        # Beyond it, the spare positions, again and again.
        cache = new(kind: {:rotating, 8, 2, 3})
        expected = whole(text, rotating(8, 2))

        {_cache, at} =
          for trimmed <- [3, 1, 0, 2, 3, 3, 3, 2], reduce: {cache, 0} do
            {cache, at} ->
              [query, key, value] = part(text, at, 5)
              {out, cache} = step(cache, query, key, value, [])
              assert_near(out, expected[[.., .., at..(at + 4)]])
              {evaluated(&Cache.trim/2, [cache, Nx.tensor(trimmed)]), at + 5 - trimmed}
          end

        assert at == 23
      end

      test "is not trimmed where it cannot be right" do
        text = text(1, 30)
        {_out, cache} = chunked(text, new(kind: {:rotating, 8, 2}), [9])

        assert_raise ArgumentError,
                     "expected to trim at most the 0 spare positions of a rotating layer, or one that has " <>
                       "overwritten nothing, got: 9 positions in 8",
                     fn -> Cache.trim(cache, 1) end

        message =
          "expected to trim at most the 0 spare positions of a rotating layer, or one that has " <>
            "overwritten nothing, got: positions that are known on the device only"

        for count <- [1, Nx.tensor(1)] do
          assert_raise ArgumentError, message, fn -> evaluated(&Cache.trim/2, [cache, count]) end
          assert_raise ArgumentError, message, fn -> evaluated(&Cache.trim(&1, 1), [cache]) end
        end

        spare = new(kind: {:rotating, 8, 2, 3})
        assert Nx.to_number(evaluated(&Cache.trim(&1, 3), [spare]).position) == 0
        assert_raise ArgumentError, fn -> evaluated(&Cache.trim(&1, 4), [spare]) end
        assert Cache.trim(cache, 0) == cache
      end

      test "is mixed with growing layers" do
        text = text(1, 20)
        cache = new(layers: 2, kind: [{:rotating, 4, 0}, :growing])

        both = fn cache, query, key, value ->
          {first, cache} = Cache.attention(cache, 0, query, key, value)
          {second, cache} = Cache.attention(cache, 1, query, key, value)
          {first, second, Cache.advance(cache, Nx.axis_size(query, 2))}
        end

        {outs, _cache} =
          Enum.map_reduce(0..19//4, cache, fn at, cache ->
            cache = Cache.grow(cache, 4)
            {first, second, cache} = compiled(both, [cache | part(text, at, 4)])
            {{first, second}, cache}
          end)

        {first, second} = Enum.unzip(outs)

        join = fn parts ->
          parts |> Enum.map(&Nx.backend_copy(&1, Nx.BinaryBackend)) |> Nx.concatenate(axis: 2)
        end

        assert_near(join.(first), whole(text, rotating(4, 0)))
        assert_near(join.(second), whole(text, &causal/3))
      end
    end
  end
end
