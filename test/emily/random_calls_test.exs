defmodule Emily.RandomCallsTest do
  @moduledoc """
  Thousands of calls that nobody thought of: random operations on random bytes, with attributes that
  fit by chance at most. Each must give a tensor or raise; were one to end the VM, no test would be
  left to pass.
  """

  use ExUnit.Case, async: true

  alias Emily.Native
  alias Emily.Test.Operations

  @moduletag :native
  @moduletag timeout: :infinity

  @calls 6_000

  @types for(kind <- [:u, :s], bits <- [2, 4, 8, 16, 32, 64], do: {kind, bits}) ++
           [f: 8, f8_e4m3fn: 8, f: 16, bf: 16, f: 32, f: 64, c: 64]

  @operations [{:nonsense, []} | Operations.all()]

  for seed <- 1..4 do
    test "random calls give tensors or raise, seed #{seed}" do
      :rand.seed(:exsss, unquote(seed))
      stream = Native.stream_new(:cpu)
      outcomes = for _ <- 1..@calls, do: outcome(stream)
      # Were all calls refused, they would say nothing about computing.
      assert Enum.count(outcomes, &(&1 == :computed)) > div(@calls, 20)
      assert Enum.count(outcomes, &(&1 == :refused)) > div(@calls, 20)
    end
  end

  defp outcome(stream) do
    inputs = for _ <- 1..pick([1, 1, 2, 2, 2, 3, 4]), do: tensor(stream)
    {_type, shape} = Native.tensor_type(hd(inputs))
    result = Native.op(stream, operation(shape), out(inputs), inputs)
    results = if is_tuple(result), do: Tuple.to_list(result), else: [result]

    for result <- results do
      binary = Emily.to_binary(result)
      {{_kind, bits}, shape} = Native.tensor_type(result)
      assert byte_size(binary) == div(Enum.product(shape) * bits + 7, 8)
    end

    :computed
  rescue
    error in [ArgumentError, Emily.Error] ->
      assert Exception.message(error) != ""
      :refused
  end

  defp tensor(stream) do
    {_kind, bits} = type = pick(@types)
    shape = shape()
    count = Enum.product(shape)

    size = div(count * bits + 7, 8)
    filling = 8 * size - count * bits

    # Small numbers are indices and sizes that may fit.
    small = for _ <- 1..count//1, into: <<>>, do: <<pick([0, 0, 1, 2])::size(bits)-little>>
    bytes = pick([:rand.bytes(size), <<small::bits, 0::size(filling)>>])
    Native.from_binary(stream, bytes, shape, type)
  end

  defp shape,
    do: pick([[], [1], [3], [2, 3], [3, 2], [3, 3], [2, 1, 3], [0], [2, 0], [1, 2, 1, 3]])

  # Mostly left to inference, else often one of an input's.
  defp out(inputs) do
    case :rand.uniform(6) do
      1 -> {pick(@types), shape()}
      2 -> inputs |> pick() |> Native.tensor_type()
      _ -> nil
    end
  end

  defp operation(shape) do
    case pick(@operations) do
      {name, []} -> name
      {name, fields} -> {name, Map.new(fields, fn {key, type} -> {key, value(type, shape)} end)}
    end
  end

  # A value of the attribute's Rust type, mostly; as often as not one that fits the shape.
  defp value("Option<" <> type, shape),
    do: pick([nil, value(String.trim_trailing(type, ">"), shape)])

  defp value("Vec<" <> type, shape) do
    type = String.replace_suffix(type, ">", "")

    case :rand.uniform(12) do
      1 -> :all
      2 -> []
      3 -> for(_ <- 1..pick([1, 2, 3]), do: value(type, shape))
      4 -> Enum.to_list(0..(length(shape) - 1)//1)
      _ -> for(_ <- shape, do: value(type, shape))
    end
  end

  defp value("[" <> type, shape) do
    [type, count] = type |> String.trim_trailing("]") |> String.split("; ")
    for _ <- 1..String.to_integer(count), do: value(type, shape)
  end

  defp value("(" <> types, shape) do
    types = types |> String.trim_trailing(")") |> String.split(", ")
    types |> Enum.map(&value(&1, shape)) |> List.to_tuple()
  end

  defp value("usize", _shape), do: pick([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 7, -1, 1 <<< 62, 1 <<< 70])
  defp value("i64", _shape), do: pick([0, 0, 0, 0, 1, 1, 2, -1, -2, 1 <<< 40, -(1 <<< 62)])
  defp value("f64", _shape), do: pick([0.0, 1.0e-5, -1.0, 1.0e300, :nan])
  defp value("bool", _shape), do: pick([true, false, false, 1])
  defp value("String", _shape), do: pick(["a_test.exs:1: A.b/2", "", :text])
  defp value("Number", _shape), do: pick([0, 1.5, :nan, :infinity, {1, 2}, -1, 1 <<< 64, :two])

  defp value("Program", _shape) do
    scalar = {pick(@types), []}
    operation = pick([:add, :subtract, :max, :negate, :sort, {:constant, %{value: 1}}])
    inputs = for _ <- 1..pick([1, 2, 2, 2, 3]), do: pick([0, 1, 2])
    instruction = %{op: operation, outs: [scalar], inputs: inputs}
    %{inputs: [scalar, scalar], instructions: [instruction], outputs: [pick([0, 1, 2, 2, 2, 3])]}
  end

  defp value("Box<Self>", shape), do: operation(shape)

  defp value(enum, _shape) do
    [_ | _] = variants = Operations.variants(enum)
    pick([:nonsense | variants ++ variants])
  end

  defp pick(list), do: Enum.random(list)

  defp left <<< right, do: Bitwise.bsl(left, right)
end
