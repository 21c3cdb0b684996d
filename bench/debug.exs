# What the assertions of Emily.Debug cost, beside the same operations without them, as a table.
#
#     MIX_ENV=test mix run bench/debug.exs

Code.require_file("timing.exs", __DIR__)

defmodule Bench.Debug do
  import Bench.Timing

  @samples 50

  def run do
    IO.puts("| operation | µs | checked | ratio |\n| --- | --- | --- | --- |")
    for size <- [64, 256, 1024], do: dot("matrix × matrix, #{size}", [size, size], [size, size])
    for size <- [1024, 4096], do: dot("matrix × vector, #{size}", [size, size], [size])

    take()
    alone()
  end

  # More indices than are looked at when the operation is noted.
  defp take do
    indices = for _ <- 1..10_000, into: <<>>, do: <<:rand.uniform(1000) - 1::32-signed-native>>
    inputs = [random([1000, 100]), Emily.from_binary(indices, [10_000], {:s, 32})]
    compare("take of 10,000 rows", {:take, %{axis: 0}}, [:bounds], inputs)
  end

  defp dot(title, a, b) do
    operation = {:dot, %{contract_a: [1], batch_a: [], contract_b: [0], batch_b: []}}
    compare(title, operation, [:finite], [random(a), random(b)])
  end

  # In turns, so that whatever else the machine does meets both.
  defp compare(title, operation, assertions, inputs) do
    checked = {:checked, %{op: operation, of: assertions, at: nil}}
    [computed(operation, inputs), computed(checked, inputs)]

    pairs = for _ <- 1..@samples, do: {computed(operation, inputs), computed(checked, inputs)}
    {plain, with} = Enum.unzip(pairs)
    row(title, middle(plain), middle(with))
  end

  defp computed(operation, inputs), do: time(fn -> Emily.eval(noted(operation, inputs)) end)

  # Noting alone, without computing anything.
  defp alone do
    x = random([2, 2])
    operation = {:dot, %{contract_a: [1], batch_a: [], contract_b: [0], batch_b: []}}
    checked = {:checked, %{op: operation, of: [:finite], at: nil}}
    many = fn one -> time(fn -> for _ <- 1..1000, do: noted(one, [x, x]) end) / 1000 end
    pairs = for _ <- 1..@samples, do: {many.(operation), many.(checked)}
    {plain, with} = Enum.unzip(pairs)
    row("noting dot of 2 × 2", middle(plain), middle(with))
  end

  defp noted(operation, inputs),
    do: Emily.Native.op(Emily.Native.DefaultStream.get(), operation, nil, inputs)

  defp random(shape) do
    bytes = for _ <- 1..Enum.product(shape), into: <<>>, do: <<:rand.normal()::32-float-native>>
    Emily.from_binary(bytes, shape, {:f, 32})
  end

  defp row(title, plain, with) do
    shown = for number <- [plain, with, with / plain], do: Float.round(number / 1, 2)
    IO.puts("| #{title} | #{Enum.join(shown, " | ")} |")
  end

  defp middle(samples), do: samples |> Enum.sort() |> Enum.at(div(length(samples), 2))
end

Bench.Debug.run()
