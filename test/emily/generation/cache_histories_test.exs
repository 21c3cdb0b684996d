if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CacheHistoriesTest do
    # What a cache may live through, in any order, leaves it with the positions that it should have.
    use ExUnit.Case, async: true

    import Emily.Test.CachedText

    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native
    @moduletag :tmp_dir

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    @steps 40
    @longest 48

    # A history is the cache, the positions of the text that it holds, and how many it has held at most.
    defp step_of(%{cache: cache, held: held, text: text} = history, {:read, positions}) do
      [query, key, value] = chosen(text, positions)
      cache = Cache.grow(cache, length(positions))
      {out, cache} = donated(&step(&1, &2, &3, &4, []), [cache, query, key, value])
      held = held ++ positions
      expected = text |> chosen(held) |> List.to_tuple() |> whole(history.visible)
      from = length(held) - length(positions)
      last = Nx.slice_along_axis(expected, from, length(positions), axis: 2)
      assert_near(Nx.backend_copy(out, Nx.BinaryBackend), last)
      %{history | cache: cache, held: held, most: max(history.most, length(held))}
    end

    defp step_of(%{cache: cache, held: held} = history, {:trim, count, how}) do
      cache =
        case how do
          :host -> Cache.trim(cache, count)
          :device -> donated(&Cache.trim/2, [cache, Nx.tensor(count)])
        end

      %{history | cache: cache, held: Enum.drop(held, -count)}
    end

    # The copy goes on, and the original is used up.
    defp step_of(%{cache: cache} = history, :copy) do
      copy = Cache.copy(cache)
      x = chosen(history.text, [0])
      donated(&step(&1, &2, &3, &4, []), [Cache.grow(cache, 1) | x])
      %{history | cache: copy}
    end

    defp step_of(%{cache: cache} = history, {:file, path}) do
      Cache.save(cache, path)
      %{history | cache: Cache.load(path)}
    end

    defp chosen(text, positions) do
      for x <- Tuple.to_list(text), do: Nx.take(x, Nx.tensor(positions), axis: 2)
    end

    # What is forgotten can be read again in another way only while it has not been overwritten.
    defp trimmable(%{spare: :all, held: held}), do: length(held)

    defp trimmable(%{spare: spare, held: held, most: most}),
      do: max(length(held) - most + spare, 0)

    defp any_step(history, path) do
      read = {:read, for(_at <- 1..Enum.random([1, 1, 1, 2, 3, 6]), do: Enum.random(0..29))}
      trimmable = trimmable(history)
      how = if history.spare == 0, do: :host, else: Enum.random([:host, :device])

      cond do
        length(history.held) > @longest and trimmable == 0 -> :copy
        trimmable > 0 and Enum.random(1..3) == 1 -> {:trim, Enum.random(1..trimmable), how}
        Enum.random(1..12) == 1 -> Enum.random([:copy, {:file, path}])
        true -> read
      end
    end

    test "any history leaves what it should", %{tmp_dir: folder} do
      path = Path.join(folder, "history.safetensors")

      for {kind, visible, spare} <- [
            {:growing, &causal/3, :all},
            {{:rotating, 7, 0, 4}, rotating(7, 0), 4},
            {{:rotating, 9, 3, 2}, rotating(9, 3), 2}
          ],
          seed <- 1..2 do
        :rand.seed(:exsss, {seed, 1, 2})
        text = text(1, 30, seed: seed)

        history = %{
          cache: new(kind: kind),
          held: [],
          most: 0,
          text: text,
          visible: visible,
          spare: spare
        }

        Enum.reduce(1..@steps, history, fn _step, history ->
          history = step_of(history, any_step(history, path))
          assert Nx.to_number(Cache.length(history.cache)) == length(history.held)
          history
        end)
      end
    end
  end
end
