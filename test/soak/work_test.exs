defmodule Emily.Soak.WorkTest do
  use ExUnit.Case, async: false

  alias Emily.Stream
  alias Emily.Test.Baseline

  @moduletag :native
  @moduletag timeout: :infinity

  @kilobyte 1024

  for {tag, rounds} <- [brief: 300, soak: 10_000] do
    @tag tag
    test "mixed operations, #{rounds} times" do
      Baseline.returns(unquote(rounds), &mixed/1)
    end

    @tag tag
    test "tensors of many sizes, #{rounds} times" do
      Baseline.returns(unquote(rounds), &sizes/1)
    end

    @tag tag
    test "processes with streams of their own, #{rounds} times" do
      Baseline.returns(unquote(rounds), &streams/1)
    end

    @tag tag
    test "binaries in and out, #{rounds} times" do
      Baseline.returns(unquote(rounds), &binaries/1)
    end
  end

  @types [{:f, 32}, {:s, 64}, {:u, 8}, {:f, 16}, {:bf, 16}, {:c, 64}, {:u, 4}, {:s, 2}, {:f, 64}]

  # Each round takes another type, shape and operation of each family.
  defp mixed(round) do
    type = Enum.at(@types, rem(round, length(@types)))
    shape = Enum.at([[], [1], [7], [3, 5], [2, 3, 4], [0], [64, 64]], rem(round, 7))
    numbers = Emily.op(:iota, [], type: type, shape: shape)
    float = Emily.op(:as_type, [numbers], type: {:f, 32})
    unary = Enum.at(~w(exp sin negate sigmoid sqrt floor erf cbrt)a, rem(round, 8))
    binary = Enum.at(~w(add subtract multiply max min pow atan2 less equal)a, rem(round, 9))
    flat = Emily.op(:reshape, [float], shape: [Enum.product(shape)])

    results = [
      Emily.op(unary, [float]),
      Emily.op(binary, [float, Emily.op(:constant, [], value: 2, type: {:f, 32}, shape: [])]),
      Emily.op(:sum, [numbers]),
      Emily.op(:concatenate, [flat, flat]),
      Emily.op(:cumulative_sum, [flat]),
      Emily.op(:argsort, [flat]),
      checked(round)
    ]

    for {result, index} <- Enum.with_index(results) do
      case rem(round + index, 4) do
        0 -> attempt(&Emily.eval/1, result)
        1 -> Emily.async_eval(result)
        2 -> attempt(&Emily.to_binary/1, result)
        3 -> Emily.shape(result)
      end
    end

    faults(round)
  end

  # What values decide is checked by what is computed beside the result.
  defp checked(round) do
    matrix = Emily.op(:add, [Emily.op(:eye, [], type: {:f, 32}, shape: [2, 2]), numbers(2)])
    index = Emily.from_binary(<<rem(round, 2)::64-native>>, [1], {:s, 64})
    Emily.op(:take, [Emily.op(:solve, [matrix, matrix]), Emily.op(:negate, [index])], axis: 0)
  end

  defp numbers(count), do: Emily.op(:iota, [], type: {:f, 32}, shape: [count])

  # An index out of range, in every other round.
  defp attempt(call, result) do
    call.(result)
  rescue
    error in Emily.Error -> error
  end

  # Errors are made, told and dropped, from here and from the stream's thread.
  defp faults(round) do
    singular = Emily.from_binary(<<0::128>>, [2, 2], {:f, 32})
    right = Emily.from_binary(<<0::64>>, [2], {:f, 32})
    assert_raise Emily.Error, fn -> Emily.to_binary(Emily.op(:solve, [singular, right])) end
    assert_raise ArgumentError, fn -> Emily.op(:transpose, [right], axes: [round]) end
  end

  # From bytes to megabytes, so that MLX's cache has to take, split and give up buffers of all sizes.
  defp sizes(round) do
    size = rem(round * 7919, 61) * Integer.pow(2, rem(round, 17)) + 1
    tensor = Emily.op(:iota, [], type: {:u, 8}, shape: [size])
    sum = Emily.op(:add, [tensor, tensor])
    Emily.eval(sum)
    if rem(round, 3) == 0, do: Emily.Native.deallocate(sum)
    if rem(round, 500) == 0, do: Emily.Memory.clear_cache()
  end

  defp streams(round) do
    weights = Emily.op(:iota, [], type: {:f, 32}, shape: [32, 32])

    1..4
    |> Enum.map(fn worker ->
      Task.async(fn ->
        Stream.with_stream(Stream.new(:cpu), fn ->
          product = Emily.op(:dot, [weights, weights], contract_a: [1], contract_b: [0])
          Emily.to_binary(Emily.op(:sum, [product], axes: [rem(round + worker, 2)]))
        end)
      end)
    end)
    |> Task.await_many(:infinity)
  end

  # Binaries that the VM shares, parts of them, and such that are read and kept for a while.
  defp binaries(round) do
    size =
      Enum.at([16, 64, 1000, 4 * @kilobyte, 100 * @kilobyte, 1100 * @kilobyte], rem(round, 6))

    whole = :binary.copy(<<rem(round, 256)>>, 2 * size)
    part = binary_part(whole, rem(round, size), size)
    tensor = Emily.from_binary(part, [size], {:u, 8})
    read = Emily.to_binary(tensor)
    assert read == part
    twice = Emily.to_binary(Emily.op(:add, [tensor, tensor]))
    assert :binary.first(twice) == rem(2 * rem(round, 256), 256)

    kept = [binary_part(read, 0, div(size, 2)), binary_part(twice, 3, 5) | Process.get(:kept, [])]
    Process.put(:kept, Enum.take(kept, 8))
    if rem(round, 2) == 0, do: Emily.Native.deallocate(tensor)
  end
end
