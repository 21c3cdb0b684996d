if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CacheMemoryTest do
    # What is measured is the memory of all processes.
    use ExUnit.Case, async: false

    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    # What is at its peak beyond what is held before, in bytes, in some steps.
    defp above(opts, mark) do
      cache = Cache.new([layers: 2, heads: 2, head_size: 32, type: :f32] ++ opts)
      x = Nx.iota({1, 2, 1, 32}, type: :f32)

      run = fn _time, cache ->
        {out, cache} = Nx.Defn.jit_apply(&step/2, [mark.(cache), x], compiler: Emily.Compiler)
        Nx.to_binary(out)
        cache
      end

      cache = Enum.reduce(1..2, cache, run)
      :erlang.garbage_collect()
      Emily.Memory.reset_peak()
      before = Emily.Memory.stats().active
      cache = Enum.reduce(1..5, cache, run)
      peak = Emily.Memory.stats().peak
      # It is asked for after it was used, or it might be collected before.
      assert Nx.to_number(Cache.length(cache)) == 7
      peak - before
    end

    defp step(cache, x) do
      {y, cache} = Cache.attention(cache, 0, x, x, x)
      {y, cache} = Cache.attention(cache, 1, y, y, y)
      {y, Cache.advance(cache, 1)}
    end

    test "a step of a cache that was donated copies nothing of it" do
      for {opts, bytes} <- [
            {[capacity: 32_768], 4},
            {[kind: {:rotating, 32_768, 4}], 4},
            {[capacity: 32_768, bits: 8, group_size: 32], 1}
          ] do
        # Keys of one layer, of which there are four such tensors.
        tensor = 32_768 * 2 * 32 * bytes
        assert above(opts, & &1) > 2 * tensor
        assert above(opts, &Nx.donatable/1) < tensor
      end
    end
  end
end
