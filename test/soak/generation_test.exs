if Code.ensure_loaded?(Nx) do
  defmodule Emily.Soak.GenerationTest do
    # What others hold and compute meanwhile would be measured with it.
    use ExUnit.Case, async: false

    alias Emily.Generation
    alias Emily.Test.DecodeLoop
    alias Emily.Test.SmallTransformer, as: Model

    @moduletag :native
    @moduletag timeout: :infinity

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    # What the VM may hold more in the end: the text itself, of some hundred bytes a token, and what other processes
    # do meanwhile. MLX may hold no more than a step's numbers.
    @vm 2 * 1_048_576
    @mlx 16 * 1024

    for {tag, count} <- [nx: 200, soak: 10_000],
        kind <- [:plain, :drafted] do
      @tag tag
      test "memory stays what it is over #{count} tokens, #{kind}" do
        size = Model.size()
        cache = [kind: {:rotating, 32, 0, 8}]
        generation = Model.generation(size, cache: cache)
        draft = Model.generation(Model.size(layers: 1, seed: 2), cache: cache)
        options = if unquote(kind) == :drafted, do: [draft: draft], else: []

        held =
          generation
          |> Generation.stream(
            [1, 2, 3],
            [max_tokens: unquote(count), temperature: 1.0] ++ options
          )
          |> Stream.with_index()
          |> Enum.reduce([], fn {_token, at}, held ->
            if rem(at, div(unquote(count), 40)) == 0, do: [held() | held], else: held
          end)

        # At first things are made once. Which step is under way differs, so the least of some is what stays.
        [early, _between, later] = held |> Enum.reverse() |> Enum.drop(4) |> Enum.chunk_every(12)
        assert least(later, :mlx) <= least(early, :mlx) + @mlx
        assert least(later, :vm) <= least(early, :vm) + @vm
      end
    end

    defp held do
      :erlang.garbage_collect()
      vm = :erlang.memory()
      %{mlx: Emily.Memory.stats().active, vm: vm[:processes] + vm[:binary] + vm[:ets]}
    end

    defp least(held, name), do: held |> Enum.map(& &1[name]) |> Enum.min()

    @tag :nx
    test "steps write in the memory of the cache, which is there once" do
      size = Model.size()
      positions = 131_072
      generation = Model.generation(size, cache: [capacity: positions])
      # Keys and values of two layers, of two heads with 8 numbers of 4 bytes.
      bytes = positions * 2 * 2 * 2 * 8 * 4
      Generation.generate(generation, [1, 2, 3], max_tokens: 2)
      before = settled(nil)
      Emily.Memory.reset_peak()
      Generation.generate(generation, [1, 2, 3], max_tokens: 8)
      peak = Emily.Memory.stats().peak - before
      assert peak > bytes
      assert peak < 1.5 * bytes
    end

    # What MLX holds when nothing more is given up.
    defp settled(before) do
      for pid <- Process.list(), do: :erlang.garbage_collect(pid)
      reference = make_ref()
      if Emily.Native.disposed(reference) == :pending, do: assert_receive({^reference, :ok})
      active = Emily.Memory.stats().active
      if active == before, do: active, else: settled(active)
    end

    @tag :soak
    test "the driver takes no more than a twentieth longer than its compiled step" do
      times = DecodeLoop.times(24, 32)
      raw = times |> Enum.map(& &1.raw) |> Enum.min()
      assert raw > 2000, "expected steps of some milliseconds, got: #{raw} µs"
      assert DecodeLoop.ratio(times) <= 1.05
    end
  end
end
