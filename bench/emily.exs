# What Emily's operations cost, as one line of JSON.
#
#     EMILY_BARE=1 MIX_ENV=prod mix run bench/emily.exs

Code.require_file("timing.exs", __DIR__)

defmodule Bench.Emily do
  import Bench.Timing

  @chain 2_000
  @side 1024
  @large_bytes 1024 * 1024 * 1024

  def run do
    JSON.encode!(%{
      add_us: chain_of_adds() / @chain,
      matmul_us: matmul(),
      to_binary_us: to_binary(),
      from_binary_us: from_binary(),
      copy_us: copy()
    })
  end

  # Noting an operation, without computing any. Each chain is computed after it was timed, so that
  # what is freed is not a graph 100,000 operations deep.
  defp chain_of_adds do
    a = f32(8, [8])

    median(50, fn ->
      chain = fn -> Enum.reduce(1..@chain, a, fn _, sum -> Emily.op(:add, [sum, a]) end) end
      start = System.monotonic_time(:nanosecond)
      last = chain.()
      spent = System.monotonic_time(:nanosecond) - start
      Emily.eval(last)
      spent / 1000
    end)
  end

  defp matmul do
    a = f32(@side * @side, [@side, @side])
    Emily.eval(a)

    median(30, fn ->
      time(fn -> Emily.eval(Emily.op(:dot, [a, a], contract_a: [1], contract_b: [0])) end)
    end)
  end

  defp to_binary do
    tensor = large()
    median(20, fn -> time(fn -> Emily.to_binary(tensor) end) end)
  end

  defp from_binary do
    binary = :binary.copy(Emily.to_binary(large()))
    median(20, fn -> time(fn -> Emily.from_binary(binary, [@large_bytes], {:u, 8}) end) end)
  end

  defp copy do
    binary = Emily.to_binary(large())
    median(3, fn -> time(fn -> :binary.copy(binary) end) end)
  end

  defp large do
    tensor = Emily.op(:iota, [], type: {:f, 32}, shape: [div(@large_bytes, 4)])
    Emily.eval(tensor)
    tensor
  end

  defp f32(count, shape) do
    Emily.from_binary(
      for(i <- 1..count, into: <<>>, do: <<i / count::float-32-native>>),
      shape,
      {:f, 32}
    )
  end
end

IO.puts(Bench.Emily.run())
