defmodule Emily.StreamTest do
  use ExUnit.Case, async: true

  alias Emily.Stream

  @moduletag :native

  doctest Stream

  defp numbers(count), do: Emily.op(:iota, [], type: {:f, 32}, shape: [count])

  test "a stream counts for its process, and for as long as the call lasts" do
    default = Stream.reference(:cpu)
    [outer, inner] = for _ <- 1..2, do: Stream.new(:cpu)

    Stream.with_stream(outer, fn ->
      assert Stream.reference() == outer.ref
      assert Stream.reference(:cpu) == outer.ref
      assert Stream.device() == :cpu

      Stream.with_stream(inner, fn -> assert Stream.reference() == inner.ref end)
      assert Stream.reference() == outer.ref
      assert Task.await(Task.async(fn -> Stream.reference(:cpu) end)) == default
    end)

    assert Stream.reference(:cpu) == default
  end

  test "the stream before counts again after an exception, a throw and an exit" do
    default = Stream.reference()
    stream = Stream.new(:cpu)

    for fun <- [fn -> raise "no" end, fn -> throw(:no) end, fn -> exit(:no) end] do
      catch_error_or_throw(fn -> Stream.with_stream(stream, fun) end)
      assert Stream.reference() == default
    end
  end

  defp catch_error_or_throw(fun) do
    fun.()
    flunk("expected an exception")
  catch
    _kind, _reason -> :ok
  end

  test "tensors of one stream are used and read on others" do
    weights = numbers(1000)

    sums =
      for _ <- 1..4 do
        Task.async(fn ->
          Stream.with_stream(Stream.new(:cpu), fn ->
            Emily.op(:sum, [Emily.op(:multiply, [weights, weights])])
          end)
        end)
      end
      |> Task.await_many()

    assert [<<sum::32-float-native>>] = sums |> Enum.map(&Emily.to_binary/1) |> Enum.uniq()
    assert_in_delta sum, 332_833_500.0, 1_000.0
  end

  test "a device that is none is refused" do
    assert_raise ArgumentError, ~r/\Aexpected :device to be :cpu or :gpu/, fn ->
      Stream.new(:tpu)
    end
  end

  test "async_eval returns at once, and what fails is told to whoever reads" do
    sum = Emily.op(:sum, [numbers(100_000)])
    assert Emily.async_eval(sum) == :ok
    assert <<sum::32-float-native>> = Emily.to_binary(sum)
    assert_in_delta sum, 4.99995e9, 1.0e5

    singular = Emily.from_binary(<<0::128>>, [2, 2], {:f, 32})
    right = Emily.from_binary(<<0::64>>, [2], {:f, 32})
    solution = Emily.op(:solve, [singular, right])
    assert Emily.async_eval(solution) == :ok
    assert_raise Emily.Error, fn -> Emily.to_binary(solution) end
    refute_received _message
  end
end
