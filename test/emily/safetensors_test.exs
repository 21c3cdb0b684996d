if Code.ensure_loaded?(Nx) do
  defmodule Emily.SafetensorsTest do
    use ExUnit.Case, async: true

    alias Emily.Safetensors

    @moduletag :nx
    @moduletag :native
    @moduletag :tmp_dir

    doctest Emily.Safetensors

    @types [:u8, :u16, :u32, :u64, :s8, :s16, :s32, :s64, :f16, :bf16, :f32, :f64, :c64]

    # A file as the format has it, written by hand.
    defp write(path, header, data) do
      header = if is_binary(header), do: header, else: JSON.encode!(header)
      File.write!(path, [<<byte_size(header)::little-64>>, header, data])
      path
    end

    defp entry(type, shape, from, to),
      do: %{"dtype" => type, "shape" => shape, "data_offsets" => [from, to]}

    test "what was written is read, of every type", %{tmp_dir: dir} do
      tensors =
        for type <- @types, into: %{} do
          {"#{type}", Nx.iota({2, 3}, type: type, backend: Emily.Backend)}
        end
        |> Map.merge(%{
          "scalar" => Nx.tensor(7, backend: Nx.BinaryBackend),
          "transposed" => Nx.transpose(Nx.iota({2, 3}, backend: Emily.Backend)),
          "large" => Nx.iota({300, 300}, type: :f32, backend: Emily.Backend)
        })

      path = Path.join(dir, "all.safetensors")
      assert Safetensors.save(tensors, path) == :ok
      assert File.ls!(dir) == ["all.safetensors"]
      loaded = Safetensors.load(path)
      assert Map.keys(loaded) == Map.keys(tensors)

      for {name, tensor} <- loaded do
        assert %Emily.Backend{} = tensor.data
        assert {tensor.type, tensor.shape} == {tensors[name].type, tensors[name].shape}
        assert Nx.to_binary(tensor) == Nx.to_binary(tensors[name])
      end
    end

    test "files of others are read", %{tmp_dir: dir} do
      header = %{
        "__metadata__" => %{"format" => "pt"},
        "a" => entry("F32", [2], 0, 8),
        "b" => entry("BOOL", [3], 8, 11)
      }

      data = <<1.5::float-32-little, -2.0::float-32-little, 1, 0, 1>>
      path = write(Path.join(dir, "model.safetensors"), header, data)
      opened = Safetensors.open(path)
      assert Safetensors.template(opened, "b") == Nx.template({3}, :u8)
      assert Nx.to_flat_list(Safetensors.read(opened, "a")) == [1.5, -2.0]
      assert Nx.to_flat_list(Safetensors.read(opened, "b")) == [1, 0, 1]
      # The folder, too.
      assert Map.keys(Safetensors.load(dir)) == ["a", "b"]
      assert Map.keys(Safetensors.load(dir, only: ["b"])) == ["b"]
      assert Map.keys(Safetensors.load(dir, only: &(&1 == "a"))) == ["a"]
    end

    test "a checkpoint in parts is read by its index", %{tmp_dir: dir} do
      Safetensors.save(
        %{"a" => Nx.tensor(1), "unused" => Nx.tensor(0)},
        Path.join(dir, "1.safetensors")
      )

      Safetensors.save(%{"b" => Nx.tensor(2)}, Path.join(dir, "2.safetensors"))
      index = Path.join(dir, "model.safetensors.index.json")
      map = %{"a" => "1.safetensors", "b" => "2.safetensors"}
      File.write!(index, JSON.encode!(%{"metadata" => %{}, "weight_map" => map}))

      for path <- [dir, index] do
        loaded = Safetensors.load(path)

        assert Map.new(loaded, fn {name, x} -> {name, Nx.to_number(x)} end) == %{
                 "a" => 1,
                 "b" => 2
               }
      end
    end

    test "what a hostile index names is not read", %{tmp_dir: dir} do
      index = Path.join(dir, "model.safetensors.index.json")

      for {text, problem} <- [
            {JSON.encode!(%{weight_map: %{"a" => "../secret.safetensors"}}),
             "parts in the folder of the index"},
            {JSON.encode!(%{weight_map: %{"a" => "/etc/passwd"}}),
             "parts in the folder of the index"},
            {JSON.encode!(%{weight_map: %{"a" => 1}}), "parts in the folder of the index"},
            {JSON.encode!(%{weight_map: []}), "an index with a weight_map"},
            {"{", "an index with a weight_map"},
            {JSON.encode!(%{weight_map: %{"a" => "absent.safetensors"}}), "No such file"}
          ] do
        File.write!(index, text)
        error = assert_raise ArgumentError, fn -> Safetensors.open(dir) end
        assert error.message =~ problem
      end

      Safetensors.save(%{"b" => Nx.tensor(2)}, Path.join(dir, "2.safetensors"))
      File.write!(index, JSON.encode!(%{weight_map: %{"a" => "2.safetensors"}}))
      error = assert_raise ArgumentError, fn -> Safetensors.open(dir) end
      assert error.message =~ ~s(expected a tensor "a", which the index says it has, got: none)
    end

    test "what makes no sense is refused, and what has no type in Nx when it is read", %{
      tmp_dir: dir
    } do
      path = Path.join(dir, "x.safetensors")

      for {header, data, problem} <- [
            {"", "", "expected a safetensors header"},
            {"{", "", "expected a safetensors header"},
            {"[]", "", "expected a safetensors header, got: invalid type: sequence"},
            {%{"a" => entry("F32", [2], 0, 8)}, <<0::32>>, "expected 8 bytes of tensors, got: 4"},
            {%{"a" => entry("F32", [2], 0, 8)}, <<0::96>>,
             "expected 8 bytes of tensors, got: 12"},
            {%{"a" => entry("F32", [3], 0, 8)}, <<0::64>>, "expected a safetensors header"},
            {%{"a" => entry("F32", [2], 8, 0)}, <<0::64>>, "expected a safetensors header"},
            {%{"a" => entry("F32", [2], -8, 0)}, <<0::64>>, "expected a safetensors header"},
            {%{"a" => entry("F32", [-2], 0, 8)}, <<0::64>>, "expected a safetensors header"},
            {%{"a" => entry("F33", [2], 0, 8)}, <<0::64>>, "expected a safetensors header"},
            # Tensors that overlap, and bytes of none.
            {%{"a" => entry("U8", [2], 0, 2), "b" => entry("U8", [2], 1, 3)}, <<0::24>>,
             "expected a safetensors header"},
            {%{"a" => entry("U8", [2], 0, 2), "b" => entry("U8", [2], 3, 5)}, <<0::40>>,
             "expected a safetensors header"},
            # Products of sizes, and ends of tensors, beyond 64 bits.
            {%{"a" => entry("U8", [4_294_967_296, 4_294_967_296], 0, 0)}, "",
             "expected a safetensors header"},
            {%{"a" => entry("F64", [2_305_843_009_213_693_952], 0, 0)}, "",
             "expected a safetensors header"},
            {%{"a" => entry("U8", [1_152_921_504_606_846_976], 0, 1_152_921_504_606_846_976)}, "",
             "expected 1152921504606846976 bytes of tensors, got: 0"},
            {~s({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,99999999999999999999]}}), "",
             "expected a safetensors header"},
            {<<123, 34, 255, 34, 58, 49, 125>>, "", "expected a safetensors header"},
            {~s({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},) <>
               ~s("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}), <<0>>,
             ~s(expected a safetensors header, got: two tensors called "a")}
          ] do
        write(path, header, data)
        error = assert_raise ArgumentError, fn -> Safetensors.open(path) end
        assert error.message =~ problem, inspect({header, error.message})
      end

      for size <- [3, 1_000_000_000_000, 18_446_744_073_709_551_615] do
        File.write!(path, <<size::little-64, "{}">>)

        assert_raise ArgumentError,
                     ~r/expected a header of at most 2 bytes, got: one of #{size}/,
                     fn -> Safetensors.open(path) end
      end

      File.write!(path, "abc")

      assert_raise ArgumentError, ~r/expected a header's size, got: 3 bytes/, fn ->
        Safetensors.open(path)
      end

      opened = write(path, %{"a" => entry("F8_E8M0", [2], 0, 2)}, <<0, 0>>) |> Safetensors.open()
      assert Safetensors.names(opened) == ["a"]

      assert_raise ArgumentError, ~r/expected a to be of a type of Nx/, fn ->
        Safetensors.read(opened, "a")
      end

      assert_raise ArgumentError, ~r/a tensor "b", got: none of that name/, fn ->
        Safetensors.read(opened, "b")
      end
    end

    test "a file that was cut short meanwhile is an error", %{tmp_dir: dir} do
      path = Path.join(dir, "x.safetensors")
      Safetensors.save(%{"a" => Nx.iota({1000})}, path)
      opened = Safetensors.open(path)
      File.write!(path, "short")

      assert_raise ArgumentError, ~r/failed to fill whole buffer/, fn ->
        Safetensors.read(opened, "a")
      end
    end

    test "arguments are checked", %{tmp_dir: dir} do
      path = Path.join(dir, "x.safetensors")
      Safetensors.save(%{"a" => Nx.tensor(1)}, path)

      assert_raise ArgumentError, ~r/:only to be a list of names/, fn ->
        Safetensors.load(path, only: 1)
      end

      assert_raise ArgumentError, ~r/:device to be :cpu or :gpu, got: :tpu/, fn ->
        Safetensors.load(path, device: :tpu)
      end

      assert_raise ArgumentError, ~r/a folder with a .safetensors file, got: none/, fn ->
        Safetensors.open(Path.dirname(dir) <> "/" <> Path.basename(dir) <> "/..")
      end

      assert_raise ArgumentError, fn ->
        Safetensors.save(%{"a" => Nx.tensor(1)}, Path.join(dir, "no/such/folder"))
      end
    end

    test "tensors of several batches and parts come as they were", %{tmp_dir: dir} do
      # More than a thread reads at a time, and what follows it begins anywhere.
      tensors =
        for number <- 1..40, into: %{"large" => Nx.iota({5_000_001}, type: :u32)} do
          {"#{number}", Nx.add(Nx.iota({number, 3}, type: :u8), number)}
        end

      path = Path.join(dir, "x.safetensors")
      Safetensors.save(tensors, path)
      loaded = Safetensors.load(path, only: ["large", "7", "large" | Map.keys(tensors)])
      assert Map.keys(loaded) == Map.keys(tensors)

      for {name, tensor} <- loaded,
          do: assert(Nx.to_binary(tensor) == Nx.to_binary(tensors[name]), name)
    end
  end

  defmodule Emily.Safetensors.MemoryTest do
    # Of the whole VM, so nothing else runs.
    use ExUnit.Case, async: false

    @moduletag :nx
    @moduletag :native
    @moduletag :tmp_dir

    @bytes 64 * 1024 * 1024

    test "no tensor comes into the memory of the BEAM", %{tmp_dir: dir} do
      path = Path.join(dir, "x.safetensors")

      tensors = tensors(16)
      Emily.Safetensors.save(tensors, path)

      # The same bytes on the way that they do not take.
      {binary, grown} = growth(fn -> File.read!(path) end)
      assert byte_size(binary) > @bytes and grown > @bytes / 2

      {loaded, grown} = growth(fn -> Emily.Safetensors.load(path) end)
      assert grown < @bytes / 16
      assert map_size(loaded) == 16

      for {name, x} <- tensors,
          do: assert(Nx.to_number(Nx.all(Nx.equal(loaded[name], x))) == 1)
    end

    defp tensors(count) do
      for number <- 1..count, into: %{} do
        one = Nx.tensor(number, type: :u32, backend: {Emily.Backend, device: :cpu})
        {"#{number}", Nx.broadcast(one, {div(@bytes, 4 * count)})}
      end
    end

    # How much more memory the VM has after the call than before it.
    defp growth(fun) do
      :erlang.garbage_collect()
      before = :erlang.memory(:total)
      result = fun.()
      {result, :erlang.memory(:total) - before}
    end
  end
end
