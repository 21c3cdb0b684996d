defmodule EmilyTest do
  use ExUnit.Case, async: true

  @moduletag :native
  @moduletag :capture_log

  doctest Emily

  defp f32(numbers, shape \\ nil) do
    binary = for number <- numbers, into: <<>>, do: <<number::32-float-native>>
    Emily.from_binary(binary, shape || [length(numbers)], {:f, 32})
  end

  defp floats(tensor), do: for(<<x::32-float-native <- Emily.to_binary(tensor)>>, do: x)

  describe "from_binary/3 and to_binary/1" do
    test "give back what they took, of every type" do
      for {kind, bits} = type <- [
            u: 8,
            u: 16,
            u: 32,
            u: 64,
            s: 8,
            s: 16,
            s: 32,
            s: 64,
            f: 16,
            bf: 16,
            f: 32,
            f: 64,
            c: 64
          ] do
        binary = :crypto.strong_rand_bytes(6 * div(bits, 8))
        tensor = Emily.from_binary(binary, [2, 3], type)
        assert Emily.to_binary(tensor) == binary, "#{kind}#{bits}"
        assert Emily.shape(tensor) == [2, 3]
        assert Emily.dtype(tensor) == type
      end
    end

    test "take binaries of any alignment, and empty ones" do
      <<_, unaligned::binary>> = <<0, 1.5::64-float-native, 2.5::64-float-native>>
      assert Emily.to_binary(Emily.from_binary(unaligned, [2], {:f, 64})) == unaligned
      assert Emily.to_binary(Emily.from_binary("", [3, 0], {:s, 16})) == ""
    end

    test "a large binary comes in off the schedulers and is the same" do
      binary = :binary.copy(<<7, 1, 2, 3>>, 1_048_576)
      assert Emily.to_binary(Emily.from_binary(binary, [1_048_576], {:s, 32})) == binary
    end

    @tag :without_detector
    test "reading copies nothing: the binary outlives the tensor and is its memory" do
      # Made in a process that ends, so that only the binary keeps the memory.
      binary =
        Task.await(
          Task.async(fn ->
            Emily.to_binary(Emily.op(:iota, [], shape: [262_144], type: {:s, 32}))
          end)
        )

      before = :erlang.memory(:binary)
      tensor = Emily.op(:iota, [], shape: [8_388_608], type: {:s, 32})
      Emily.eval(tensor)
      read = Emily.to_binary(tensor)
      assert byte_size(read) == 33_554_432
      assert :erlang.memory(:binary) - before < 8_388_608

      :erlang.garbage_collect()
      assert <<0::32-native, 1::32-native, _::binary>> = binary
      assert binary_part(binary, 1_048_572, 4) == <<262_143::32-native>>
    end

    test "a view that is not row-major is read in row-major order" do
      t = Emily.op(:iota, [], shape: [2, 3], type: {:u, 8})
      assert Emily.to_binary(Emily.op(:transpose, [t], axes: [1, 0])) == <<0, 3, 1, 4, 2, 5>>
      assert Emily.to_binary(Emily.op(:reverse, [t], axes: [1])) == <<2, 1, 0, 5, 4, 3>>
    end

    test "byte counts, shapes and types that do not fit are refused" do
      cases = [
        {[<<1, 2, 3>>, [2], {:u, 8}], "expected :binary to be 2 bytes for u8[2], got: 3 bytes"},
        {[<<1, 2, 3>>, [2], {:s, 64}],
         "expected :binary to be 16 bytes for s64[2], got: 3 bytes"},
        {["", [-1], {:u, 8}],
         "expected :shape to be sizes from 0 to 2147483647 with a product below 2^60, got: [-1]"},
        {["", [0, 1_073_741_824, 1_073_741_824], {:u, 8}],
         "expected :shape to be sizes from 0 to 2147483647 with a product below 2^60, " <>
           "got: [0, 1073741824, 1073741824]"},
        {["", [18_446_744_073_709_551_616], {:u, 8}],
         "expected :shape to be a list of sizes below 2^63, got: [an integer beyond 64 bits]"},
        {["", {2, 3}, {:u, 8}], "expected :shape to be a list of sizes below 2^63, got: {2, 3}"},
        {["", [1], {:f, 128}],
         "expected :type to be one of {:u, 2}, {:u, 4}, {:u, 8}, {:u, 16}, {:u, 32}, {:u, 64}, " <>
           "{:s, 2}, {:s, 4}, {:s, 8}, {:s, 16}, {:s, 32}, {:s, 64}, {:f, 8}, {:f8_e4m3fn, 8}, " <>
           "{:f, 16}, {:bf, 16}, {:f, 32}, {:f, 64}, {:c, 64}, got: {:f, 128}"},
        {["", [1], {:c, 128}],
         "expected :type to be a type of MLX's (instead of {:c, 128} use {:c, 64}), got: {:c, 128}"},
        {[<<0x12, 0x30>>, [5], {:s, 4}],
         "expected :binary to be 3 bytes for s4[5], got: 2 bytes"},
        {[:bytes, [1], {:u, 8}], "expected :binary to be a binary, got: :bytes"}
      ]

      for {arguments, message} <- cases do
        error = assert_raise ArgumentError, fn -> apply(Emily, :from_binary, arguments) end
        assert Exception.message(error) == message
      end
    end
  end

  describe "op/3" do
    test "merges types and broadcasts shapes as Nx does" do
      bytes = Emily.from_binary(<<1, 2, 3>>, [3], {:u, 8})
      column = f32([10.0, 20.0], [2, 1])
      sum = Emily.op(:add, [bytes, column])
      assert {Emily.shape(sum), Emily.dtype(sum)} == {[2, 3], {:f, 32}}
      assert floats(sum) == [11.0, 12.0, 13.0, 21.0, 22.0, 23.0]
    end

    test "takes attributes, with Nx's defaults" do
      t = f32([3.0, 1.0, 2.0, 6.0, 5.0, 4.0], [2, 3])
      assert floats(Emily.op(:sum, [t])) == [21.0]
      assert Emily.shape(Emily.op(:sum, [t], axes: [1], keep_axes: true)) == [2, 1]

      assert floats(Emily.op(:sort, [t], axis: 1, direction: :desc)) == [
               3.0,
               2.0,
               1.0,
               6.0,
               5.0,
               4.0
             ]

      assert Emily.to_binary(Emily.op(:argmax, [t])) == <<3::32-native>>
    end

    test "takes the result's type and shape where the inputs do not tell them" do
      t = f32([1.9, -1.9, 300.0, 0.0])
      assert Emily.to_binary(Emily.op(:as_type, [t], type: {:s, 8})) == <<1, -1, 300, 0>>
      assert Emily.shape(Emily.op(:reshape, [t], shape: [2, 2])) == [2, 2]

      nan = Emily.op(:constant, [], value: :nan, type: {:f, 32}, shape: [2])
      assert Emily.to_binary(Emily.op(:is_nan, [nan])) == <<1, 1>>
      i = Emily.op(:constant, [], value: {0, 1}, type: {:c, 64}, shape: [])
      assert floats(Emily.op(:multiply, [i, i])) == [-1.0, 0.0]
    end

    test "what does not fit is refused, and says what was expected" do
      t = f32([1.0, 2.0])

      cases = [
        {[:add, [t]], "expected add to take 2 inputs, got: 1"},
        {[:add, [t, :x]], "expected a list of tensors as inputs, got: [a reference, :x]"},
        {[:add, [t, t], [axis: 0]],
         "expected an operation that Emily has, with its attributes, got: {:add, %{:axis => 0}}"},
        {["add", [t, t]], "expected an operation as :name or {:name, attributes}, got: \"add\""},
        {[:sum, [t], [axes: [3]]],
         "expected :axes to be distinct and below the rank, 1, got: [3]"},
        {[:transpose, [t], []],
         "expected an operation with its attributes, got: {:transpose, %{}} " <>
           "(Could not decode field 'axes' on Enum 'Op')"},
        {[:reshape, [t], []],
         "expected the type and shape of the result of reshape, which its inputs do not tell"},
        {[:add, [t, f32([1.0, 2.0, 3.0])]],
         "expected add of shapes that broadcast, got: f32[2], f32[3]"},
        {[:add, [t, t], [shape: [3]]],
         "expected add of f32[2], f32[2] to give f32[3], got: f32[2]"},
        {[:slice, [t], [starts: [1], lengths: [2], strides: [1]]],
         "expected the slice of axis 0 to lie within its 2 elements with a positive stride, " <>
           "got: 2 elements from 1 by 1"}
      ]

      for {arguments, message} <- cases do
        error = assert_raise ArgumentError, fn -> apply(Emily, :op, arguments) end
        assert Exception.message(error) == message
      end
    end

    test "MLX's own refusals carry the operation, its inputs and its stream" do
      error =
        assert_raise Emily.Error, fn -> Emily.op(:reshape, [f32([1.0, 2.0])], shape: [3]) end

      assert error.op == "reshape"
      assert error.inputs == "f32[2]"
      assert error.output == "f32[3]"
      assert error.attributes == "none"
      assert error.stream =~ ~r/^[cg]pu stream /
      assert Exception.message(error) =~ "reshape failed: [reshape] Cannot reshape"
    end
  end
end
