defmodule Emily.RandomCallsTest do
  @moduledoc """
  Thousands of calls that nobody thought of: random operations on random bytes, with attributes that
  fit by chance at most. Each must give a tensor or raise; were one to end the VM, no test would be
  left to pass.
  """

  use ExUnit.Case, async: true

  alias Emily.Native

  @moduletag :native
  @moduletag timeout: :infinity

  @calls 6_000

  @types for(kind <- [:u, :s], bits <- [8, 16, 32, 64], do: {kind, bits}) ++
           [f: 16, bf: 16, f: 32, f: 64, c: 64]

  @plain ~w(exp expm1 log log1p sigmoid cos sin tan cosh sinh tanh acos asin atan acosh asinh atanh
            sqrt rsqrt cbrt erf erfc erf_inv abs ceil floor round negate sign conjugate real imag
            is_nan is_infinity bitwise_not count_leading_zeros population_count logical_not add
            subtract multiply pow remainder divide quotient atan2 min max bitwise_and bitwise_or
            bitwise_xor left_shift right_shift equal not_equal greater less greater_equal less_equal
            logical_and logical_or logical_xor select clip as_type reshape squeeze eye nonsense)a

  @with_attributes [
    iota: [:axis],
    constant: [:value],
    broadcast: [:axes],
    transpose: [:axes],
    reverse: [:axes],
    slice: [:starts, :lengths, :strides],
    concatenate: [:axis],
    stack: [:axis],
    sum: [:axes, :keep_axes],
    product: [:axes, :keep_axes],
    reduce_max: [:axes, :keep_axes],
    reduce_min: [:axes, :keep_axes],
    all: [:axes, :keep_axes],
    any: [:axes, :keep_axes],
    argmax: [:axis, :keep_axis, :tie_break],
    argmin: [:axis, :keep_axis, :tie_break],
    dot: [:contract_a, :batch_a, :contract_b, :batch_b],
    sort: [:axis, :direction],
    argsort: [:axis, :direction]
  ]

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
    inputs = for _ <- 1..pick([1, 1, 2, 2, 2, 3]), do: tensor(stream)
    result = Native.op(stream, operation(), out(inputs), inputs)
    binary = Emily.to_binary(result)
    {{_kind, bits}, shape} = Native.tensor_type(result)
    assert byte_size(binary) * 8 == Enum.product(shape) * bits
    :computed
  rescue
    error in [ArgumentError, Emily.Error] ->
      assert Exception.message(error) != ""
      :refused
  end

  defp tensor(stream) do
    {_kind, bits} = type = pick(@types)
    shape = shape()
    bytes = :rand.bytes(Enum.product(shape) * div(bits, 8))
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

  defp operation do
    if :rand.uniform() < 0.5 do
      pick(@plain)
    else
      {name, attributes} = pick(@with_attributes)
      {name, Map.new(attributes, &{&1, value(&1)})}
    end
  end

  defp value(name) when name in [:axis], do: pick([nil, 0, 0, 0, 1, 2, 7, -1, 1 <<< 70])
  defp value(:value), do: pick([0, 1.5, :nan, :infinity, {1, 2}, -1, 1 <<< 64, :two])
  defp value(name) when name in [:keep_axes, :keep_axis], do: pick([true, false, false, 1])
  defp value(:tie_break), do: pick([:low, :high, :middle])
  defp value(:direction), do: pick([:asc, :desc, :up])

  defp value(_list) do
    pick([[], [0], [0], [1], [0, 1], [1, 0], [0, 0], [2, 1, 0], [5], nil, [1 <<< 62], [-1], :all])
  end

  defp pick(list), do: Enum.random(list)

  defp left <<< right, do: Bitwise.bsl(left, right)
end
