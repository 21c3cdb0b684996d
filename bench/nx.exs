# What Nx's operations cost on Emily.Backend beside Nx.BinaryBackend, as one line of JSON.
#
#     MIX_ENV=test mix run bench/nx.exs

Code.require_file("timing.exs", __DIR__)

defmodule Bench.Nx do
  import Bench.Timing

  @chain 2_000
  @wide 256
  @side 64

  def run do
    add = %{
      name: "one Nx.add of 8 floats, of a chain of 2,000 without a read",
      ours: chain(Emily.Backend),
      baseline: chain(Nx.BinaryBackend)
    }

    rows = for {name, fun} <- operations(), do: row(name, fun)
    JSON.encode!(%{add: add, operations: rows})
  end

  # Noting an operation, without computing any; each chain is computed after it was timed.
  defp chain(backend) do
    a = random({8}, backend)

    median(30, fn ->
      start = System.monotonic_time(:nanosecond)
      last = Enum.reduce(1..@chain, a, fn _, sum -> Nx.add(sum, a) end)
      spent = System.monotonic_time(:nanosecond) - start
      Nx.to_binary(last)
      spent / 1000 / @chain
    end)
  end

  # With the result read, so that it is computed.
  defp row(name, fun) do
    [ours, baseline] =
      for {backend, count} <- [{Emily.Backend, 50}, {Nx.BinaryBackend, 5}] do
        inputs = %{
          x: random({@wide, @wide}, backend),
          y: random({@wide, @wide}, backend),
          a: random({@side, @side}, backend),
          b: random({@side, @side}, backend),
          image: random({1, 3, 32, 32}, backend),
          kernel: random({8, 3, 3, 3}, backend),
          index: Nx.iota({@wide}, type: :s32, backend: backend)
        }

        median(count, fn -> time(fn -> inputs |> fun.() |> Nx.to_binary() end) end)
      end

    %{name: "Nx.#{name}", ours: ours, baseline: baseline}
  end

  # What BinaryBackend takes seconds for has smaller inputs.
  defp operations do
    [
      add: &Nx.add(&1.x, &1.y),
      multiply: &Nx.multiply(&1.x, &1.y),
      exp: &Nx.exp(&1.x),
      tanh: &Nx.tanh(&1.x),
      less: &Nx.less(&1.x, &1.y),
      select: &Nx.select(Nx.less(&1.x, 0.5), &1.x, &1.y),
      as_type: &Nx.as_type(&1.x, :s32),
      transpose: &Nx.transpose(&1.x),
      broadcast: &Nx.broadcast(&1.a, {4, @side, @side}),
      slice: &Nx.slice(&1.x, [3, 5], [200, 201]),
      pad: &Nx.pad(&1.a, 0, [{1, 2, 0}, {0, 3, 1}]),
      concatenate: &Nx.concatenate([&1.x, &1.y], axis: 1),
      take: &Nx.take(&1.x, &1.index),
      sum: &Nx.sum(&1.x, axes: [1]),
      reduce_max: &Nx.reduce_max(&1.x),
      argmax: &Nx.argmax(&1.x, axis: 0),
      cumulative_sum: &Nx.cumulative_sum(&1.a, axis: 1),
      sort: &Nx.sort(&1.a, axis: 1),
      dot: &Nx.dot(&1.a, &1.b),
      conv: &Nx.conv(&1.image, &1.kernel),
      window_max: &Nx.window_max(&1.a, {2, 2}, strides: [2, 2]),
      fft: &Nx.fft(&1.a)
    ]
  end

  defp random(shape, backend) do
    :rand.seed(:exsss, 7)
    numbers = for _ <- 1..Tuple.product(shape), do: :rand.uniform()
    numbers |> Nx.tensor(type: :f32, backend: backend) |> Nx.reshape(shape)
  end
end

IO.puts(Bench.Nx.run())
