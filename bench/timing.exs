# How the benchmarks measure.
defmodule Bench.Timing do
  @doc "How long a call takes: microseconds, with what is below them."
  def time(function) do
    start = System.monotonic_time(:nanosecond)
    function.()
    (System.monotonic_time(:nanosecond) - start) / 1000
  end

  @doc "One call to warm up, then the middle of `count`."
  def median(count, sample) do
    sample.()
    samples = for _ <- 1..count, do: sample.()
    samples |> Enum.sort() |> Enum.at(div(count, 2))
  end
end
