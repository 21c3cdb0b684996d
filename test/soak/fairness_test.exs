defmodule Emily.Soak.FairnessTest do
  use ExUnit.Case, async: false

  alias Emily.Native
  alias Emily.Stream

  @moduletag :native
  @moduletag timeout: :infinity

  defp numbers(stream, count),
    do: Native.op(stream.ref, {:iota, %{axis: nil}}, {{:f, 32}, [count]}, [])

  defp chain(stream, count, length) do
    Enum.reduce(1..length, numbers(stream, count), fn _, tensor ->
      Native.op(stream.ref, :sin, nil, [tensor])
    end)
  end

  defp quick(stream) do
    tensor = chain(stream, 100, 5)
    duration(fn -> Emily.to_binary(tensor) end)
  end

  for {tag, length} <- [brief: 150, soak: 5_000] do
    @tag tag
    test "a slow evaluation delays no quick one on another stream, #{length} operations long" do
      [slow, other] = for _ <- 1..2, do: Stream.new(:cpu)
      alone = for _ <- 1..200, do: quick(other)
      tensor = chain(slow, 300_000, unquote(length))
      evaluation = Task.async(fn -> duration(fn -> Emily.eval(tensor) end) end)
      {whole, beside} = until_done(evaluation, other, [])

      if System.get_env("SHOW") do
        IO.inspect(whole: whole, alone: percentiles(alone), beside: percentiles(beside))
      end

      # Each evaluation would otherwise wait for most of the slow one.
      assert length(beside) > 10
      assert Enum.max(beside) < whole / 4
      assert median(beside) < whole / 20
    end
  end

  test "two slow evaluations on two streams take turns" do
    streams = for _ <- 1..2, do: Stream.new(:cpu)
    [tensor | _] = tensors = for stream <- streams, do: chain(stream, 200_000, 100)
    again = chain(hd(streams), 200_000, 100)
    alone = duration(fn -> Emily.eval(again) end)

    ends =
      tensors
      |> Enum.map(fn tensor -> Task.async(fn -> duration(fn -> Emily.eval(tensor) end) end) end)
      |> Task.await_many(:infinity)

    # Neither is done long before the other, and together they take no longer than one after the other.
    assert Enum.max(ends) < 4 * alone
    assert Enum.min(ends) > Enum.max(ends) / 3
    assert Emily.to_binary(tensor) == Emily.to_binary(again)
  end

  defp until_done(evaluation, stream, times) do
    case Task.yield(evaluation, 0) do
      {:ok, whole} -> {whole, times}
      nil -> until_done(evaluation, stream, [quick(stream) | times])
    end
  end

  defp median(times), do: times |> Enum.sort() |> Enum.at(div(length(times), 2))

  defp percentiles(times) do
    sorted = Enum.sort(times)

    for part <- [50, 90, 99, 100],
        do: {part, Enum.at(sorted, div((length(times) - 1) * part, 100))}
  end

  defp duration(fun) do
    {time, _result} = :timer.tc(fun)
    time
  end
end
