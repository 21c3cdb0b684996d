if Code.ensure_loaded?(Nx) do
  defmodule Emily.Quantization.CheckpointTest do
    use ExUnit.Case, async: true

    alias Emily.{Quantization, QuantizedWeight, Safetensors}

    @moduletag :nx
    @moduletag :native
    @moduletag :tmp_dir

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp matrix(rows, columns, type \\ :f32),
      do: {rows, columns} |> Nx.iota(type: :f32) |> Nx.sin() |> Nx.as_type(type)

    defp quantized(opts), do: Quantization.quantize(matrix(4, 128), opts)

    # A weight's tensors under the names that MLX gives them.
    defp parts(%QuantizedWeight{} = weight, layer) do
      for {part, tensor} <- [
            {"weight", weight.packed},
            {"scales", weight.scales},
            {"biases", weight.biases}
          ],
          tensor != nil,
          into: %{},
          do: {"#{layer}.#{part}", tensor}
    end

    defp write(folder, tensors, config \\ nil) do
      Safetensors.save(tensors, Path.join(folder, "model.safetensors"))
      if config, do: File.write!(Path.join(folder, "config.json"), JSON.encode!(config))
      folder
    end

    defp same!(loaded, weight) do
      assert %QuantizedWeight{} = loaded

      assert Map.take(loaded, [:mode, :bits, :group_size]) ==
               Map.take(weight, [:mode, :bits, :group_size])

      for {a, b} <- Enum.zip(QuantizedWeight.parts(loaded), QuantizedWeight.parts(weight)) do
        assert %Emily.Backend{} = a.data
        assert {a.shape, a.type} == {b.shape, b.type}
        assert Nx.to_binary(a) == Nx.to_binary(b)
      end
    end

    defp message(fun), do: assert_raise(ArgumentError, fun).message

    test "what was quantized is one weight, and all else as it is", %{tmp_dir: folder} do
      weight = quantized(bits: 3, group_size: 32)

      others = %{
        "norm.weight" => matrix(1, 8, :bf16),
        "counts.weight" => Nx.u32([1, 2, 3]),
        "up.bias" => matrix(1, 4),
        "else.scales" => matrix(1, 4)
      }

      settings = %{"bits" => 3, "group_size" => 32, "counts" => false}
      tensors = weight |> parts("up") |> Map.merge(others)
      write(folder, tensors, %{"hidden_size" => 4, "quantization" => settings})

      for path <- [folder, Path.join(folder, "model.safetensors")] do
        loaded = Quantization.load(path)
        assert Enum.sort(Map.keys(loaded)) == Enum.sort(["up.weight" | Map.keys(others)])
        same!(loaded["up.weight"], weight)
        for {name, x} <- others, do: assert(Nx.to_binary(loaded[name]) == Nx.to_binary(x))
      end

      x = matrix(2, 128)
      up = Quantization.load(folder)["up.weight"]
      expected = Quantization.quantized_matmul(x, weight)
      difference = up |> then(&Quantization.quantized_matmul(x, &1)) |> Nx.subtract(expected)
      assert difference |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number() < 1.0e-4
    end

    test "every mode, with settings or with options", %{tmp_dir: folder} do
      for opts <- [
            [mode: :affine, bits: 2, group_size: 128],
            [mode: :mxfp4],
            [mode: :mxfp8],
            [mode: :nvfp4]
          ] do
        weight = quantized(opts)
        own = Map.take(weight, [:mode, :bits, :group_size])
        config = Map.new(own, fn {key, value} -> {to_string(key), value} end)
        write(folder, parts(weight, "a.b"), %{"quantization_config" => config})
        assert %{"a.b.weight" => loaded} = Quantization.load(folder)
        same!(loaded, weight)
        assert QuantizedWeight.type(loaded) == if(weight.biases, do: {:f, 32}, else: {:bf, 16})

        File.rm!(Path.join(folder, "config.json"))

        assert %{"a.b.weight" => loaded} =
                 Quantization.load(folder, Keyword.put(opts, :type, :f16))

        same!(loaded, weight)
        assert QuantizedWeight.type(loaded) == if(weight.biases, do: {:f, 32}, else: {:f, 16})
      end
    end

    test "layers have settings of their own, in several files", %{tmp_dir: folder} do
      [all, wide, float, plain] =
        weights = [
          quantized(bits: 4, group_size: 64),
          quantized(bits: 8, group_size: 32),
          quantized(mode: :mxfp4),
          quantized(bits: 4, group_size: 64)
        ]

      names = ["layers.0.up", "layers.0.gate", "head", "layers.1.up"]
      files = for number <- 1..4, do: "model-0000#{number}-of-00004.safetensors"
      entries = for {weight, name} <- Enum.zip(weights, names), do: parts(weight, name)

      for {parts, file} <- Enum.zip(entries, files),
          do: Safetensors.save(parts, Path.join(folder, file))

      map = for {parts, file} <- Enum.zip(entries, files), {name, _} <- parts, do: {name, file}
      index = Path.join(folder, "model.safetensors.index.json")
      File.write!(index, JSON.encode!(%{"weight_map" => Map.new(map)}))

      # A layer's own settings take nothing from those of all.
      settings = %{
        "bits" => 4,
        "group_size" => 64,
        "quant_method" => "mlx",
        "layers.0.gate" => %{"bits" => 8, "group_size" => 32},
        "head" => %{"mode" => "mxfp4"},
        "layers.1.up" => true
      }

      config = %{"quantization" => settings, "quantization_config" => "not read"}
      File.write!(Path.join(folder, "config.json"), JSON.encode!(config))

      for path <- [folder, index] do
        loaded = Quantization.load(path)
        assert map_size(loaded) == 4

        for {name, weight} <- Enum.zip(names, [all, wide, float, plain]),
            do: same!(loaded[name <> ".weight"], weight)
      end
    end

    test ":only names what is whole, and what is not chosen need not make sense", %{
      tmp_dir: folder
    } do
      weight = quantized(bits: 4, group_size: 64)
      broken = quantized(bits: 4, group_size: 64) |> parts("down") |> Map.delete("down.biases")
      tensors = weight |> parts("up") |> Map.merge(broken) |> Map.put("norm.weight", matrix(1, 4))
      write(folder, tensors, %{"quantization" => %{"bits" => 4, "group_size" => 64}})

      assert Map.keys(Quantization.load(folder, only: ["up.weight"])) == ["up.weight"]
      assert %{"norm.weight" => %Nx.Tensor{}} = Quantization.load(folder, only: ["norm.weight"])

      only = fn name ->
        send(self(), {:asked, name})
        name =~ "up"
      end

      assert %{"up.weight" => loaded} = Quantization.load(folder, only: only)
      same!(loaded, weight)

      for name <- ["down.weight", "norm.weight", "up.weight"],
          do: assert_received({:asked, ^name})

      refute_received {:asked, _part}

      assert message(fn -> Quantization.load(folder, only: ["up.scales"]) end) ==
               "#{folder}: up.scales: expected a name of :only that is whole, got: a part of up.weight"

      assert message(fn -> Quantization.load(folder, only: ["nothing"]) end) ==
               "#{folder}: expected a tensor \"nothing\", got: none of that name"

      assert message(fn -> Quantization.load(folder, only: :up) end) =~
               "expected :only to be a list of names, or a function of one, got: :up"

      assert_raise ArgumentError, ~r/unknown keys \[:bit\]/, fn ->
        Quantization.load(folder, bit: 4)
      end

      assert message(fn -> Quantization.load(folder, only: ["up.weight"], device: :tpu) end) =~
               ":cpu or :gpu"
    end

    test "parts that are missing or of other shapes are named", %{tmp_dir: folder} do
      weight = parts(quantized(bits: 4, group_size: 64), "up")
      config = %{"quantization" => %{"bits" => 4, "group_size" => 64}}

      load = fn tensors ->
        message(fn -> Quantization.load(write(folder, tensors, config)) end)
      end

      assert load.(Map.delete(weight, "up.biases")) ==
               "#{folder}: up.weight: expected up.biases beside it, as it is affine, got: none"

      assert load.(Map.delete(weight, "up.scales")) ==
               "#{folder}: up.weight: expected up.scales beside it, as #{folder}/config.json says, got: none"

      together =
        "#{folder}: up.weight: expected packed numbers of :u32, and scales and biases of :f32, :f16 or :bf16 that " <>
          "go with them in groups of 64 numbers of 4 bits, got: "

      assert load.(%{weight | "up.scales" => matrix(4, 4), "up.biases" => matrix(4, 4)}) ==
               together <> "u32[4][16], f32[4][4], f32[4][4]"

      assert load.(%{weight | "up.biases" => matrix(4, 1)}) ==
               together <> "u32[4][16], f32[4][2], f32[4][1]"

      assert load.(%{weight | "up.scales" => Nx.u8([[1, 2], [1, 2], [1, 2], [1, 2]])}) ==
               together <> "u32[4][16], u8[4][2], f32[4][2]"

      config = %{"quantization" => %{"mode" => "mxfp4"}}

      assert message(fn -> Quantization.load(write(folder, weight, config)) end) =~
               "scales of :u8 and no biases"
    end

    test "settings that are missing or make no sense are named", %{tmp_dir: folder} do
      weight = parts(quantized(bits: 4, group_size: 64), "up")
      write(folder, weight)
      path = Path.join(folder, "config.json")

      none =
        "#{folder}: up.weight: expected \"quantization\" settings for it in #{path}, or the options :mode, :bits " <>
          "and :group_size, got: scales beside it, and no settings"

      assert message(fn -> Quantization.load(folder) end) == none
      assert %{"up.weight" => _weight} = Quantization.load(folder, bits: 4)
      assert message(fn -> Quantization.load(folder, bits: 7) end) =~ "expected :bits of :affine"

      settings = &%{"quantization" => Map.merge(%{"bits" => 4, "group_size" => 64}, &1)}

      for {config, text} <- [
            {%{}, none},
            {settings.(%{"up" => false}), none},
            {[1], "#{path}: expected an object, got: [1]"},
            {%{"quantization" => 4}, "#{path}: \"quantization\": expected an object, got: 4"},
            {%{"quantization_config" => %{"bits" => 4}},
             "#{path}: \"quantization_config\": expected \"group_size\", got: none"},
            {settings.(%{"bits" => "4"}),
             "#{path}: \"quantization\": expected :bits of :affine to be 2, 3, 4, 5, 6 or 8, got: \"4\""},
            {settings.(%{"mode" => "gguf"}),
             "#{path}: \"quantization\": expected a mode of \"affine\", \"mxfp4\", \"mxfp8\", \"nvfp4\", got: \"gguf\""},
            {settings.(%{"up" => %{"group_size" => 48}}),
             "#{path}: \"quantization\": \"up\": expected :group_size of :affine to be 32, 64 or 128, got: 48"}
          ] do
        File.write!(path, JSON.encode!(config))
        assert message(fn -> Quantization.load(folder) end) == text
      end

      File.write!(path, "{")

      assert message(fn -> Quantization.load(folder) end) ==
               "#{path}: expected JSON, got: something else"

      File.rm!(path)
      File.mkdir!(path)

      assert message(fn -> Quantization.load(folder) end) =~
               "#{path}: expected a file that can be read, got: illegal operation on a directory"

      # What has no packed matrix needs no settings.
      write(folder, %{"norm.weight" => matrix(1, 4)})
      assert %{"norm.weight" => %Nx.Tensor{}} = Quantization.load(folder)
    end
  end
end
