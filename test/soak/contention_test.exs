defmodule Emily.Soak.ContentionTest do
  use ExUnit.Case, async: false

  alias Emily.{Native, Stream}

  @moduletag :native
  @moduletag timeout: :infinity

  @processes 64
  @streams 4

  for {tag, rounds} <- [brief: 2, soak: 160] do
    @tag tag
    test "64 processes that share tensors on 4 streams compute what one does, #{rounds} times" do
      alone = for number <- 1..@processes, do: program(number, shared(Stream.reference()))
      streams = for _ <- 1..@streams, do: Stream.new(:cpu)

      for round <- 1..unquote(rounds) do
        # New each time, so that all the processes find them still to be computed.
        shared = shared(Enum.at(streams, rem(round, @streams)).ref)

        together =
          1..@processes
          |> Enum.map(fn number ->
            stream = Enum.at(streams, rem(number, @streams))
            Task.async(fn -> Stream.with_stream(stream, fn -> program(number, shared) end) end)
          end)
          |> Task.await_many(:infinity)

        assert together == alone
      end
    end
  end

  # Tensors that depend on each other, none of them computed yet.
  defp shared(stream) do
    size = {{:f, 32}, [96, 96]}
    base = Native.op(stream, :sin, nil, [Native.op(stream, {:iota, %{axis: nil}}, size, [])])
    product = Native.op(stream, {:dot, dot()}, nil, [base, base])

    [
      base,
      product,
      Native.op(stream, :tanh, nil, [Native.op(stream, :add, nil, [base, product])])
    ]
  end

  defp dot, do: %{contract_a: [1], batch_a: [], contract_b: [0], batch_b: []}

  # Sums, products and factorizations: what would show another order of computation in its last bits.
  defp program(number, shared) do
    [a, b, c] = Enum.take(Elixir.Stream.cycle(shared) |> Elixir.Stream.drop(rem(number, 3)), 3)
    scaled = Emily.op(:multiply, [a, scalar(number)])
    product = Emily.op(:dot, [scaled, b], contract_a: [1], contract_b: [0])
    if rem(number, 5) == 0, do: Emily.eval(product)
    {q, r} = Emily.op(:qr, [Emily.op(:add, [product, c])])
    if rem(number, 7) == 0, do: Emily.async_eval(r)

    for tensor <- [q, Emily.op(:sum, [r], axes: [0]), Emily.op(:cumulative_sum, [product])],
        do: Emily.to_binary(tensor)
  end

  defp scalar(number), do: Emily.op(:constant, [], value: number / 7, type: {:f, 32}, shape: [])
end
