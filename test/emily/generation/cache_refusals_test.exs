if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CacheRefusalsTest do
    use ExUnit.Case, async: true

    import Emily.Test.CachedText

    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
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
  end
end
