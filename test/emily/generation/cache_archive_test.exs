if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.CacheArchiveTest do
    use ExUnit.Case, async: true

    import Emily.Test.CachedText

    alias Emily.Generation.Cache

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
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
  end
end
