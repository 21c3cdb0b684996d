if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CacheTest do
    use ExUnit.Case, async: true

    alias Emily.Fast
    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native

    doctest Cache

    @heads 2
    @query_heads 4
    @features 6

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp random(shape, seed, type \\ :f32) do
      {x, _key} = Nx.Random.normal(Nx.Random.key(seed), shape: shape, type: :f32)
      Nx.as_type(x, type)
    end

    defp text(batch, positions, opts \\ []) do
      seed = Keyword.get(opts, :seed, 1)
      features = Keyword.get(opts, :value_size, @features)

      {random({batch, @query_heads, positions, @features}, seed),
       random({batch, @heads, positions, @features}, seed + 1),
       random({batch, @heads, positions, features}, seed + 2)}
    end

    defp new(opts) do
      [layers: 1, heads: @heads, head_size: @features, type: :f32, step: 8]
      |> Keyword.merge(opts)
      |> Cache.new()
    end

    # What positions give that are computed at once, where `visible` says which sees which.
    defp whole({query, key, value}, visible, opts \\ []) do
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

    defp part(text, from, count) do
      text |> Tuple.to_list() |> Enum.map(&Nx.slice_along_axis(&1, from, count, axis: 2))
    end

    defp step(cache, query, key, value, opts) do
      {out, cache} = Cache.attention(cache, 0, query, key, value, opts)
      {out, Cache.advance(cache, Nx.axis_size(query, 2))}
    end

    # What they give in chunks of these sizes.
    defp chunked(text, cache, sizes, run \\ &apply/2, opts \\ []) do
      {outs, {cache, _at}} =
        Enum.map_reduce(sizes, {cache, 0}, fn size, {cache, at} ->
          cache = Cache.grow(cache, size, length: at)
          {out, cache} = run.(&step(&1, &2, &3, &4, opts), [cache | part(text, at, size)])
          {out, {cache, at + size}}
        end)

      {outs |> Enum.map(&Nx.backend_copy(&1, Nx.BinaryBackend)) |> Nx.concatenate(axis: 2), cache}
    end

    defp compiled(fun, arguments),
      do: Nx.Defn.jit_apply(fun, arguments, compiler: Emily.Compiler, native_fallback: :raise)

    defp donated(fun, [cache | others]), do: compiled(fun, [Nx.donatable(cache) | others])

    defp evaluated(fun, arguments),
      do: Nx.Defn.jit_apply(fun, arguments, compiler: Nx.Defn.Evaluator)

    defp assert_near(given, expected, tolerance \\ 1.0e-5) do
      difference = given |> Nx.subtract(expected) |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()
      assert is_number(difference) and difference < tolerance, inspect(difference)
    end

    defp causal(_row, q, k), do: k <= q

    defp rotating(window, keep) do
      fn _row, q, k -> k <= q and (k < keep or k > q - (window - keep)) end
    end

    # Sizes of chunks that make `count` positions, other ones for each seed.
    defp sizes(count, seed) do
      :rand.seed(:exsss, {seed, 0, 0})

      Stream.repeatedly(fn -> Enum.random([1, 1, 1, 2, 3, 5, 9]) end)
      |> Enum.reduce_while([], fn size, sizes ->
        left = count - Enum.sum(sizes)
        if size >= left, do: {:halt, [left | sizes]}, else: {:cont, [size | sizes]}
      end)
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

    describe "a file" do
      @describetag :tmp_dir

      test "has all that a cache is", %{tmp_dir: folder} do
        path = Path.join(folder, "prompt.safetensors")
        text = text(2, 20, value_size: 4)

        for {opts, starts} <- [
              {[], nil},
              {[type: :bf16], [0, 3]},
              {[kind: {:rotating, 6, 2, 1}], nil},
              {[layers: 2, kind: [:growing, {:rotating, 6, 0}]], [3, 0]}
            ] do
          cache = new([batch: 2, value_size: 4] ++ opts)
          cache = if starts, do: Cache.pad(cache, starts), else: cache
          {_out, cache} = chunked(text, cache, [7, 5])
          assert Cache.save(cache, path) == :ok
          loaded = Cache.load(path)
          assert Cache.capacity(loaded) == Cache.capacity(cache)
          arguments = part(text, 12, 8)
          cache = Cache.grow(cache, 8)
          {expected, cache} = compiled(&step(&1, &2, &3, &4, []), [cache | arguments])
          {out, loaded} = compiled(&step(&1, &2, &3, &4, []), [Cache.grow(loaded, 8) | arguments])
          assert Nx.to_binary(out) == Nx.to_binary(expected)

          assert Nx.to_flat_list(Cache.positions(loaded)) ==
                   Nx.to_flat_list(Cache.positions(cache))
        end
      end

      test "of nothing held is small, and can be read", %{tmp_dir: folder} do
        path = Path.join(folder, "empty.safetensors")
        Cache.save(new(capacity: 4096), path)
        assert File.stat!(path).size < 4096
        assert path |> Cache.load() |> Cache.capacity() == 8
      end

      test "that is another or was damaged is refused", %{tmp_dir: folder} do
        path = Path.join(folder, "damaged.safetensors")
        {_out, cache} = chunked(text(1, 5), Cache.pad(new([]), [1]), [5])
        Cache.save(cache, path)
        whole = Emily.Safetensors.load(path)

        message =
          "#{path}: expected a cache that save/2 has written, got: another file, or a damaged one"

        about = fn changes ->
          json = JSON.decode!(Nx.to_binary(whole["cache"]))
          %{"cache" => Nx.from_binary(JSON.encode!(Map.merge(json, changes)), :u8)}
        end

        for changed <- [
              %{"cache" => Nx.tensor([1.0])},
              %{"cache" => Nx.u8([1, 2, 3])},
              %{"layers.0.keys" => Nx.iota({1, 2, 4, 6}, type: :f32)},
              %{"layers.0.keys" => Nx.iota({1, 2, 5, 6}, type: :s32)},
              %{"layers.0.keys" => Nx.iota({2, 5, 6}, type: :f32)},
              %{"layers.0.values" => Nx.iota({1, 1, 5, 6}, type: :f32)},
              %{"starts" => Nx.tensor([1, 2], type: :s32)},
              about.(%{"format" => 2}),
              about.(%{"position" => 4}),
              about.(%{"position" => -1}),
              about.(%{"step" => 0}),
              about.(%{"step" => "8"}),
              about.(%{"layers" => []}),
              about.(%{"layers" => [%{}]}),
              about.(%{"layers" => [%{"kind" => "rotating", "keep" => 5, "spare" => 0}]}),
              about.(%{"layers" => [%{"kind" => "growing"}, %{"kind" => "growing"}]})
            ] do
          whole |> Map.merge(changed) |> Emily.Safetensors.save(path)
          assert_raise ArgumentError, message, fn -> Cache.load(path) end
        end

        Emily.Safetensors.save(Map.delete(whole, "layers.0.values"), path)
        assert_raise ArgumentError, message, fn -> Cache.load(path) end
        Emily.Safetensors.save(Map.delete(whole, "cache"), path)
        assert_raise ArgumentError, message, fn -> Cache.load(path) end
        assert_raise ArgumentError, fn -> Cache.load(Path.join(folder, "none.safetensors")) end
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

    describe "what makes no sense is refused" do
      test "when a cache is made" do
        for {opts, message} <- [
              {[layers: 0], "expected :layers to be a positive integer, got: 0"},
              {[heads: nil], "expected :heads to be a positive integer, got: nil"},
              {[step: 2.5], "expected :step to be a positive integer, got: 2.5"},
              {[batch: -1], "expected :batch to be a positive integer, got: -1"},
              {[value_size: 0], "expected :value_size to be a positive integer, got: 0"},
              {[capacity: :all], "expected :capacity to be a positive integer, got: :all"},
              {[type: :s32], "expected :type to be a floating type, got: {:s, 32}"},
              {[kind: [:growing, :growing]],
               "expected :kind to be a list of one for each of 1 layers, got: [:growing, :growing]"}
            ] do
          assert_raise ArgumentError, message, fn -> new(opts) end
        end

        for kind <- [
              :full,
              {:rotating, 4, 4},
              {:rotating, 4, -1},
              {:rotating, 4, 0, -1},
              {:rotating, 4}
            ] do
          assert_raise ArgumentError,
                       ~r"^expected :kind to be :growing, or .*, got: #{Regex.escape(inspect(kind))}$",
                       fn ->
                         new(kind: kind)
                       end
        end

        assert_raise ArgumentError, fn -> new(windows: 3) end
      end

      test "when it attends" do
        cache = new(batch: 2)
        [query, key, value] = fit = part(text(2, 3), 0, 3)

        assert_raise ArgumentError, "expected a layer from 0 to 0, got: 1", fn ->
          apply(Cache, :attention, [cache, 1 | fit])
        end

        expected =
          "expected a query of {2, a multiple of 2, positions, 6}, a key of {2, 2, positions, 6} and a value of " <>
            "{2, 2, positions, 6}, got: "

        for {query, key, value} <- [
              {query[0..0], key[0..0], value[0..0]},
              {query[[.., 0..2]], key, value},
              {query, key[[.., 0..0]], value},
              {query, key, value[[.., .., .., 0..3]]},
              {query[[.., .., .., 0..3]], key[[.., .., .., 0..3]], value},
              {query[[.., .., 0..1]], key, value},
              {query, key, value[[.., .., 0..1]]},
              {query[0], key, value}
            ],
            run <- [&apply/2, &compiled/2] do
          message = expected <> Enum.map_join([query, key, value], ", ", &inspect(&1.shape))

          assert_raise ArgumentError, message, fn ->
            run.(&step(&1, &2, &3, &4, []), [cache, query, key, value])
          end
        end

        assert_raise ArgumentError, "expected :window to be a positive integer, got: 0", fn ->
          step(cache, query, key, value, window: 0)
        end

        assert_raise ArgumentError, "expected an Emily.Generation.Cache, got: {}", fn ->
          Cache.attention({}, 0, query, key, value)
        end
      end

      test "when there is no room" do
        [query, key, value] = part(text(1, 9), 0, 9)

        message = "expected at most 8 positions, which is the cache's capacity, got: 9"

        for run <- [&apply/2, &compiled/2] do
          assert_raise ArgumentError, message, fn ->
            run.(&step(&1, &2, &3, &4, []), [new([]), query, key, value])
          end
        end

        message =
          "expected room for 2 positions after 7, which grow/3 makes, got: a capacity of 8"

        [query, key, value] = part(text(1, 9), 0, 2)

        assert_raise ArgumentError, message, fn ->
          step(Cache.advance(new([]), 7), query, key, value, [])
        end
      end

      test "when positions are counted" do
        for fun <- [&Cache.advance/2, &Cache.trim/2],
            count <- [-1, 1.5, Nx.tensor(1.5), Nx.tensor([1]), nil] do
          assert_raise ArgumentError,
                       ~r"^expected a count that is an integer from 0 on or a scalar of integers, got: ",
                       fn -> fun.(new([]), count) end
        end

        assert_raise ArgumentError, "expected room for an integer from 0 on, got: -1", fn ->
          Cache.grow(new([]), -1)
        end

        assert_raise ArgumentError, "expected :length to be an integer from 0 on, got: 1.0", fn ->
          Cache.grow(new([]), 1, length: 1.0)
        end
      end

      test "when rows are padded" do
        for {starts, got} <- [
              {[1], "s32 {1}"},
              {Nx.tensor([1.0, 2.0]), "f32 {2}"},
              {Nx.tensor(1), "s32 {}"}
            ] do
          assert_raise ArgumentError,
                       "expected padding of {2} integers, one for each row, got: " <> got,
                       fn -> Cache.pad(new(batch: 2), starts) end
        end

        assert_raise ArgumentError,
                     "expected rotating layers that keep no first positions, for padding",
                     fn -> Cache.pad(new(kind: {:rotating, 4, 1}), [0]) end
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
