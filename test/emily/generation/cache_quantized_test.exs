if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CacheQuantizedTest do
    use ExUnit.Case, async: true

    import Emily.Test.CachedText

    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native

    @query_heads 4

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    describe "a quantized cache" do
      # What is left of keys and values when they were quantized.
      defp coarse({query, key, value}, opts) do
        [key, value] =
          for x <- [key, value],
              do: x |> Emily.Quantization.quantize(opts) |> Emily.Quantization.dequantize()

        {query, key, value}
      end

      test "gives what quantized positions at once give, however they are divided" do
        sinks = random({@query_heads}, 9)

        for {opts, visible} <- [
              {[], &causal/3},
              {[kind: {:rotating, 8, 2, 1}], rotating(8, 2)}
            ],
            {bits, run} <- [{4, &donated/2}, {8, &donated/2}, {4, &evaluated/2}] do
          quantized = [bits: bits, group_size: 32]
          text = text(1, 30, seed: bits, head_size: 64, value_size: 32)
          cache = new([head_size: 64, value_size: 32] ++ quantized ++ opts)
          extra = [scale: 0.1, sinks: sinks]
          # Chunks of 16 and more are attended to otherwise.
          {out, _cache} = chunked(text, cache, [3, 1, 17, 1, 1, 2, 5], run, extra)
          assert_near(out, whole(coarse(text, quantized), visible, extra), 1.0e-4)
        end
      end

      @tag :tmp_dir
      test "pads, trims and is saved", %{tmp_dir: folder} do
        opts = [bits: 4, group_size: 32, head_size: 32, type: :bf16]
        path = Path.join(folder, "quantized.safetensors")
        # Backends differ in how they round, and need not.
        narrow =
          2 |> text(20, head_size: 32) |> Tuple.to_list() |> Enum.map(&Nx.as_type(&1, :bf16))

        text = narrow |> Enum.map(&Nx.as_type(&1, :f32)) |> List.to_tuple()
        cache = new([batch: 2] ++ opts) |> Cache.pad([0, 4])
        {_out, cache} = chunked(text, cache, [9, 2])
        cache = cache |> Cache.trim(1) |> Cache.grow(8)
        assert Cache.capacity(cache) == 24
        Cache.save(cache, path)
        assert Cache.capacity(loaded = Cache.load(path)) == 16
        arguments = part(text, 10, 6)
        {expected, _cache} = compiled(&step(&1, &2, &3, &4, []), [cache | arguments])
        {out, _loaded} = compiled(&step(&1, &2, &3, &4, []), [loaded | arguments])

        assert_near(
          Nx.backend_copy(out, Nx.BinaryBackend),
          Nx.backend_copy(expected, Nx.BinaryBackend)
        )

        starts = [0, 4]
        seen = fn row, q, k -> (k <= q and k >= Enum.at(starts, row)) or k == q end

        coarse = narrow |> List.to_tuple() |> coarse(Keyword.take(opts, [:bits, :group_size]))
        wide = coarse |> Tuple.to_list() |> Enum.map(&Nx.as_type(&1, :f32)) |> List.to_tuple()
        whole = whole(wide, seen)[[.., .., 10..15]]
        assert_near(Nx.backend_copy(out, Nx.BinaryBackend), whole, 0.05)
      end

      test "with more bits is nearer to what is not quantized" do
        text = text(1, 40, head_size: 64)
        {exact, _cache} = chunked(text, new(head_size: 64), [36, 4], &compiled/2)

        [eight, six, four, two] =
          for bits <- [8, 6, 4, 2] do
            {out, _cache} = chunked(text, new(head_size: 64, bits: bits), [36, 4], &compiled/2)
            out |> Nx.subtract(exact) |> Nx.abs() |> Nx.mean() |> Nx.to_number()
          end

        assert eight < 0.005
        assert Enum.sort([eight, six, four, two]) == [eight, six, four, two]
      end

      test "takes part of the memory" do
        bytes = fn opts ->
          [layers: 1, heads: 1, head_size: 128]
          |> Keyword.merge(opts)
          |> Cache.new()
          |> Nx.Defn.Composite.reduce(0, &(Nx.byte_size(&1) + &2))
        end

        assert bytes.(bits: 8) / bytes.([]) < 0.54
        assert bytes.(bits: 4) / bytes.([]) < 0.29
      end
    end
  end
end
