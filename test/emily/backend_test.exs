# Without Nx there is no backend to test.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.BackendTest do
    # One test changes the application's configuration.
    use ExUnit.Case, async: false

    alias Emily.Backend
    alias Nx.BinaryBackend

    @moduletag :nx
    @moduletag :native

    defmodule Unknown do
      defstruct []
    end

    setup do
      Nx.default_backend(Backend)
      :ok
    end

    defp devices do
      {:ok, %{devices: devices}} = Emily.Native.info()
      devices
    end

    test "every callback of Nx.Backend is defined" do
      for {name, arity} <- Nx.Backend.behaviour_info(:callbacks) do
        assert function_exported?(Backend, name, arity), "#{name}/#{arity} is missing"
      end
    end

    test "every block of Nx is known" do
      {:ok, modules} = :application.get_key(:nx, :modules)

      blocks =
        for module <- modules, match?(["Nx", "Block" | _], Module.split(module)), do: module

      assert length(blocks) >= 20

      for block <- blocks do
        refute Emily.Operation.block(struct!(block), []) == :unknown, "#{inspect(block)}"
      end
    end

    test "a block that nobody knows runs its own function, on Emily" do
      result =
        Nx.block(%Unknown{}, [Nx.tensor([1, 2])], Nx.template({2}, :s32), fn %Unknown{}, t ->
          Nx.add(t, 1)
        end)

      assert %Nx.Tensor{data: %Backend{}} = result
      assert Nx.to_flat_list(result) == [2, 3]
    end

    test "options name a device" do
      assert Backend.init([]) == []
      assert Backend.init(device: :cpu) == [device: :cpu]

      for {options, message} <- [
            {[device: :tpu], "expected :device to be :cpu or :gpu, got: :tpu"},
            {[client: :host],
             "expected the options of Emily.Backend to be :device, got: [:client]"}
          ] do
        assert_raise ArgumentError, message, fn ->
          Nx.tensor([1], backend: {Backend, options}) |> Nx.backend_copy({Backend, options})
        end
      end
    end

    test "a device that is not there is refused" do
      for device <- [:cpu, :gpu] -- devices() do
        message = "expected :device to be :#{hd(devices())} on this machine, got: :#{device}"

        assert_raise ArgumentError, message, fn ->
          Nx.tensor([1], backend: {Backend, device: device})
        end
      end
    end

    test "results are on their tensors' device" do
      for device <- devices() do
        t = Nx.tensor([1, 2], backend: {Backend, device: device})
        assert %Nx.Tensor{data: %Backend{device: ^device}} = Nx.add(t, t)
        assert %Nx.Tensor{data: %Backend{device: ^device}} = Nx.add(t, 1)
        assert inspect(t) == "#Nx.Tensor<\n  s32[2]\n  [1, 2]\n>"
      end
    end

    test "tensors of Nx.BinaryBackend are moved over" do
      theirs = Nx.tensor([[1, 2], [3, 4]], backend: BinaryBackend)
      ours = Nx.tensor([[10, 20], [30, 40]])

      for {a, b} <- [{ours, theirs}, {theirs, ours}] do
        result = Nx.add(a, b)
        assert %Nx.Tensor{data: %Backend{}} = result
        assert Nx.to_flat_list(result) == [11, 22, 33, 44]
        assert Nx.to_flat_list(Nx.concatenate([a, b]) |> Nx.sum(axes: [0])) == [44, 66]
        assert %Nx.Tensor{data: %Backend{}} = Nx.concatenate([a, b])
      end
    end

    test "copies and transfers go both ways" do
      ours = Nx.tensor([1.5, 2.5], names: [:x])
      theirs = Nx.backend_copy(ours)
      assert %Nx.Tensor{data: %BinaryBackend{}, names: [:x]} = theirs
      assert Nx.to_binary(theirs) == Nx.to_binary(ours)

      back = Nx.backend_transfer(theirs, Backend)
      assert %Nx.Tensor{data: %Backend{}, names: [:x]} = back
      assert Nx.to_flat_list(back) == [1.5, 2.5]
      assert Nx.backend_transfer(back, Backend) == back

      copy = Nx.backend_copy(back, Backend)
      assert Nx.backend_deallocate(back) == :ok
      assert Nx.to_flat_list(copy) == [1.5, 2.5]
    end

    test "a tensor that was deallocated is gone, and what depends on it is not" do
      t = Nx.tensor([1, 2, 3])
      binary = Nx.to_binary(t)
      sum = Nx.add(t, 1)
      assert Nx.backend_deallocate(t) == :ok
      assert Nx.backend_deallocate(t) == :already_deallocated

      for use <- [&Nx.to_binary/1, &Nx.add(&1, 1), &Nx.to_pointer/1] do
        assert_raise ArgumentError, "expected a tensor, got: one that was deallocated", fn ->
          use.(t)
        end
      end

      assert inspect(t) == "#Nx.Tensor<\n  s32[3]\n  Deallocated\n>"
      assert Nx.to_flat_list(sum) == [2, 3, 4]
      assert binary == <<1::32-native, 2::32-native, 3::32-native>>

      moved = Nx.tensor([4])
      assert Nx.to_flat_list(Nx.backend_transfer(moved, BinaryBackend)) == [4]
      assert Nx.backend_deallocate(moved) == :already_deallocated
    end

    test "a tensor that was saved without its elements says so" do
      # As it comes from a file, in another VM: the reference means nothing there.
      t = put_in(Nx.tensor([1, 2, 3]).data.ref, make_ref())
      assert inspect(t) == "#Nx.Tensor<\n  s32[3]\n  Not here: of an earlier time of this node\n>"

      for use <- [
            &Nx.to_binary/1,
            &Nx.add(&1, 1),
            &Nx.backend_copy/1,
            &Nx.backend_transfer(&1, Backend),
            &Nx.backend_deallocate/1
          ] do
        assert_raise ArgumentError, ~r/\Aexpected a tensor of this node \(to send one /, fn ->
          use.(t)
        end
      end
    end

    test "c128 is refused, and what to do is said" do
      for make <- [
            fn -> Nx.tensor([Complex.new(1.0, 2.0)], type: :c128) end,
            fn -> Nx.as_type(Nx.tensor([1.0]), :c128) end
          ] do
        assert_raise ArgumentError,
                     "expected :type to be a type of MLX's (instead of {:c, 128} use {:c, 64}), " <>
                       "got: {:c, 128}",
                     make
      end
    end

    test "types of 2 and 4 bits are bitstrings, and f8 are bytes" do
      for type <- [{:u, 2}, {:s, 2}, {:u, 4}, {:s, 4}, {:f, 8}, {:f8_e4m3fn, 8}],
          shape <- [{}, {1}, {3}, {2, 3}, {5}] do
        bits = Tuple.product(shape) * elem(type, 1)
        <<data::bits-size(^bits), _rest::bits>> = <<0b00011011, 0xA3, 0x71, 0x3C, 0xB5, 0x48>>
        ours = Nx.from_binary(data, type, backend: Backend) |> Nx.reshape(shape)
        assert Nx.to_binary(ours) == data
        theirs = Nx.backend_copy(ours, BinaryBackend)
        assert Nx.to_binary(theirs) == data
        assert inspect(ours) == inspect(theirs)
        assert Nx.to_binary(Nx.backend_copy(theirs, Backend)) == data
      end

      t = Nx.tensor([7, -8, 3], type: :s4, backend: Backend)
      assert Nx.to_flat_list(Nx.add(t, 1) |> Nx.as_type(:s4)) == [-8, -7, 4]
      assert Nx.to_flat_list(Nx.add(t, t)) == [-2, 0, 6]
      assert Nx.to_flat_list(Nx.as_type(Nx.tensor([1.0e6]), :f8)) == [:infinity]
    end

    test "addresses are given and taken" do
      t = Nx.tensor([[1, 2, 3], [4, 5, 6]], backend: {Backend, device: :cpu})
      flipped = Nx.transpose(t)
      pointer = Nx.to_pointer(flipped)
      assert %Nx.Pointer{kind: :local, data_size: 24} = pointer

      copy = Nx.from_pointer({Backend, device: :cpu}, pointer, {:s, 32}, {3, 2}, names: [:a, nil])
      assert copy.names == [:a, nil]
      assert Nx.to_flat_list(copy) == [1, 4, 2, 5, 3, 6]

      # The memory belongs to the tensor, which must live until here.
      assert Nx.to_pointer(flipped) == pointer

      assert_raise ArgumentError,
                   "expected the pointer to {:s, 32} of shape {2} to have 8 bytes, got: 24",
                   fn -> Nx.from_pointer(Backend, pointer, {:s, 32}, {2}) end

      assert_raise ArgumentError, ~r/expected an Nx.Pointer of the kind :local, got: /, fn ->
        Nx.from_pointer(Backend, %Nx.Pointer{kind: :ipc, handle: "x"}, {:s, 32}, {2})
      end

      assert_raise ArgumentError, ~r/expected :mode to be :local/, fn ->
        Nx.to_pointer(t, mode: :ipc)
      end

      assert_raise ArgumentError, ~r/expected :address to have 8 bytes that can be read/, fn ->
        Nx.from_pointer(Backend, %Nx.Pointer{kind: :local, address: 64}, {:s, 32}, {2})
      end
    end

    test "batches repeat the first rows, or leave the last ones" do
      t = Nx.iota({5, 2})

      batches = fn t, options ->
        for one <- Nx.to_batched(t, 2, options), do: Nx.to_flat_list(one)
      end

      assert batches.(t, []) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
      assert batches.(t, leftover: :discard) == [[0, 1, 2, 3], [4, 5, 6, 7]]
      assert Enum.all?(Nx.to_batched(t, 2), &match?(%Backend{}, &1.data))
    end

    test "what is inspected shows its backend, unless told otherwise" do
      t = Nx.tensor([1, 2])
      assert inspect(t) == "#Nx.Tensor<\n  s32[2]\n  [1, 2]\n>"
      device = t.data.device

      Application.put_env(:emily, :add_backend_on_inspect, true)
      shown = inspect(t)
      Application.put_env(:emily, :add_backend_on_inspect, false)
      assert shown == "#Nx.Tensor<\n  s32[2]\n  Emily.Backend<#{device}>\n  [1, 2]\n>"
    end
  end
end
