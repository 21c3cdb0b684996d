defmodule Emily.Adoption.UnchangedTest do
  @moduledoc """
  No operation changes a binary that its inputs read in place.

  To save memory MLX writes results over inputs that nobody needs any more. So all inputs here, and what
  was made of them on the way, are collected before anything is computed.
  """

  use ExUnit.Case, async: true

  alias Emily.{Native, Stream}
  alias Emily.Test.Operations

  @moduletag :native

  # How many rows and columns a matrix of the type has that is too large to be copied.
  @sides %{
    {:u, 8} => 182,
    {:bf, 16} => 128,
    {:s, 32} => 92,
    {:f, 32} => 92,
    {:f, 64} => 64,
    {:c, 64} => 64
  }

  @views [:whole, :flat, :rows, :columns, :every_second, :transposed, :reversed, :other_bits]

  for {{kind, bits} = type, _side} <- @sides do
    test "by one operation on a view of #{kind}#{bits}" do
      sources = sources(unquote(type))

      for view <- @views, {name, operation} <- operations() do
        unchanged(sources, "#{view}, #{name}", fn x, other ->
          view |> look(x) |> operation.(other)
        end)
      end
    end

    test "by chains of operations and views of #{kind}#{bits}" do
      sources = sources(unquote(type))
      :rand.seed(:exsss, 7)

      for _ <- 1..100 do
        steps = for _ <- 1..5, do: Enum.random(@views ++ [:negate, :add, :multiply])
        unchanged(sources, inspect(steps), fn x, _other -> Enum.reduce(steps, x, &follow/2) end)
      end
    end
  end

  defp follow(:negate, x), do: Emily.op(:negate, [x])
  defp follow(name, x) when name in [:add, :multiply], do: Emily.op(name, [x, scalar(x)])
  defp follow(view, x), do: look(view, x)

  # Two binaries of a matrix each, what is in them, and how to make tensors of them: read in place, or
  # copied, as what lies at an odd address is.
  defp sources(type) do
    side = @sides[type]
    binaries = for seed <- 1..2, do: content(type, side * side, seed)
    odd = for binary <- binaries, do: binary_part(<<0, binary::binary>>, 1, byte_size(binary))
    make = fn binaries -> Enum.map(binaries, &Emily.from_binary(&1, [side, side], type)) end
    hashes = fn -> Enum.map(binaries, &:erlang.md5/1) end

    # Were they small enough to be copied, they could not change.
    for binary <- binaries do
      head = binary_part(binary, 0, 128)
      assert Native.adopt_binary(Stream.reference(), binary, head, [side, side], type) != :copy
    end

    %{
      hashes: hashes,
      before: hashes.(),
      adopted: fn -> make.(binaries) end,
      copied: fn -> make.(odd) end
    }
  end

  # Calls `fun` with tensors of two binaries, and compares: the binaries with what they were, and the
  # results with those of tensors that were copied.
  defp unchanged(sources, what, fun) do
    results = read(fun, sources.adopted)
    assert sources.hashes.() == sources.before, what
    assert results == read(fun, sources.copied), what
  end

  # The hashes of what `fun` makes of two tensors.
  defp read(fun, make) do
    results = lazy(fun, make.())
    :erlang.garbage_collect()
    for result <- results, do: result |> Emily.to_binary() |> :erlang.md5()
  rescue
    # A matrix that is not positive definite, or not regular.
    _ in Emily.Error -> :failed
  end

  defp lazy(fun, [x, other]) do
    case fun.(x, other) do
      results when is_tuple(results) -> Tuple.to_list(results)
      result -> [result]
    end
  rescue
    # Many operations do not take the type, the shape, or so many inputs.
    _ in [ArgumentError, Emily.Error] -> []
  end

  # Numbers from 1 to 50, which are in range whatever they are taken for.
  defp content({kind, bits}, size, seed) do
    for at <- 1..size, into: <<>> do
      number = rem(at * (14 * seed + 7), 50) + 1

      case kind do
        :f -> <<number::float-native-size(bits)>>
        :bf -> binary_part(<<number::float-32-little>>, 2, 2)
        :c -> <<number::float-32-native, number::float-32-native>>
        _integer -> <<number::native-size(bits)>>
      end
    end
  end

  defp scalar(x), do: x |> Emily.dtype() |> content(1, 3) |> Emily.from_binary([], Emily.dtype(x))

  defp look(:whole, x), do: x
  defp look(:flat, x), do: Emily.op(:reshape, [x], shape: [Enum.product(Emily.shape(x))])
  defp look(:rows, x), do: part(x, fn size -> {1, size - 1, 1} end)
  defp look(:columns, x), do: part(x, fn size -> {0, div(size, 2), 1} end)
  defp look(:every_second, x), do: part(x, fn size -> {0, div(size, 2), 2} end)
  defp look(:transposed, x), do: Emily.op(:transpose, [x], axes: Enum.reverse(axes(x)))
  defp look(:reversed, x), do: Emily.op(:reverse, [x], axes: axes(x))

  defp look(:other_bits, x) do
    case Emily.dtype(x) do
      {:c, 64} -> x
      {:s, bits} -> Emily.op(:bitcast, [x], type: {:u, bits})
      {_kind, bits} -> Emily.op(:bitcast, [x], type: {:s, bits})
    end
  end

  defp part(x, of_axis) do
    parts = Enum.map(Emily.shape(x), of_axis)
    [starts, lengths, strides] = for at <- 0..2, do: Enum.map(parts, &elem(&1, at))
    Emily.op(:slice, [x], starts: starts, lengths: lengths, strides: strides)
  end

  defp axes(x), do: Enum.to_list(0..(length(Emily.shape(x)) - 1))

  # Everything that can be done with a tensor, and another one of the same type.
  defp operations do
    plain = for {name, []} <- Operations.all(), do: name

    for(name <- plain, do: {name, fn x, _other -> Emily.op(name, [x]) end}) ++
      for(name <- plain, do: {name, fn x, other -> Emily.op(name, [x, other]) end}) ++
      for(name <- plain, do: {name, fn x, _other -> Emily.op(name, [x, scalar(x)]) end}) ++
      for(name <- plain, do: {name, fn x, _other -> Emily.op(name, [scalar(x), x]) end}) ++
      with_attributes() ++ indexed()
  end

  defp with_attributes do
    for {name, options} <- [
          sum: [axes: [0]],
          product: [axes: [0]],
          reduce_max: [],
          argmax: [axis: 0],
          cumulative_sum: [],
          cumulative_product: [reverse: true],
          cumulative_max: [],
          sort: [],
          sort: [direction: :desc],
          argsort: [],
          top_k: [k: 3],
          as_type: [type: {:f, 32}],
          as_type: [type: {:s, 32}],
          fft: [axis: 0, length: 16],
          ifft: [axis: 0, length: 64],
          qr: [],
          concatenate: [],
          stack: []
        ] do
      {name, fn x, _other -> Emily.op(name, [x], options) end}
    end
  end

  defp indexed do
    at = fn numbers, shape ->
      Emily.from_binary(for(n <- numbers, into: <<>>, do: <<n::32-native>>), shape, {:s, 32})
    end

    rows = at.([0, 2, 5], [3, 1])
    starts = fn x -> Enum.map(Emily.shape(x), fn _ -> at.([1], []) end) end
    first = fn x -> part(x, fn _ -> {0, 1, 1} end) end
    zeros = fn x -> Enum.map(Emily.shape(x), fn _ -> 0 end) end
    three = fn x -> x |> part(fn size -> {0, min(size, 3), 1} end) end

    [
      take: fn x, _other -> Emily.op(:take, [x, rows]) end,
      take_along_axis: fn x, _other ->
        Emily.op(:take_along_axis, [x, Emily.op(:argsort, [x])])
      end,
      gather: fn x, _other -> Emily.op(:gather, [x, rows], axes: [0]) end,
      indexed_add: fn x, other ->
        Emily.op(:indexed_add, [x, rows, updates(other, x)], axes: [0])
      end,
      indexed_put: fn x, other ->
        Emily.op(:indexed_put, [x, rows, updates(other, x)], axes: [0])
      end,
      put_slice: fn x, other -> Emily.op(:put_slice, [x, three.(other)], starts: zeros.(x)) end,
      dynamic_put_slice: fn x, _other ->
        Emily.op(:dynamic_put_slice, [x, first.(x) | starts.(x)])
      end,
      dynamic_slice: fn x, _other ->
        ones = Enum.map(zeros.(x), &(&1 + 1))
        Emily.op(:dynamic_slice, [x | starts.(x)], lengths: ones, strides: ones)
      end,
      select: fn x, other -> Emily.op(:select, [Emily.op(:greater, [x, scalar(x)]), x, other]) end
    ]
  end

  # Three rows of what may have another shape.
  defp updates(other, x) do
    [_rows | row] = Emily.shape(x)
    size = 3 * Enum.product(row)
    flat = Emily.op(:slice, [look(:flat, other)], starts: [0], lengths: [size], strides: [1])
    Emily.op(:reshape, [flat], shape: [3 | row])
  end
end
