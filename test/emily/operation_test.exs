# Without Nx there is nothing to divide.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.OperationTest do
    use ExUnit.Case, async: true

    alias Emily.Operation
    alias Emily.Test.Operations
    alias Nx.Defn.{Composite, Expr, Tree}
    alias Nx.Tensor, as: T

    @moduletag :nx

    doctest Operation

    # Each operation at least once, on a matrix of floats, one of integers, and a scalar index.
    defp everything(x, n, i) do
      [
        one_tensor(x, n),
        two_tensors(x, n),
        for(name <- ~w(sum product reduce_max reduce_min all any)a, do: apply(Nx, name, [x])),
        for(name <- ~w(argmax argmin)a, do: apply(Nx, name, [x, [axis: 0]])),
        for(name <- ~w(sort argsort)a, do: apply(Nx, name, [x, [axis: 1]])),
        for(
          name <- ~w(window_sum window_product window_max window_min)a,
          do: apply(Nx, name, [x, {1, 2}])
        ),
        for(
          name <- ~w(window_scatter_max window_scatter_min)a,
          do: apply(Nx, name, [x, x[[.., 0..1]], 0, {1, 2}, [strides: [1, 1]]])
        ),
        Nx.reduce(x, 0.0, &Nx.add/2),
        Nx.window_reduce(x, 0.0, {1, 2}, &Nx.max/2),
        shapes(x, i),
        indices(x, n),
        for(name <- ~w(fft ifft)a, do: apply(Nx, name, [x])),
        Nx.dot(x, [0], n, [0]),
        Nx.conv(Nx.new_axis(x, 0), Nx.new_axis(x, 0)),
        Nx.LinAlg.triangular_solve(x, x),
        blocks(x, n)
      ]
      |> List.flatten()
      |> List.to_tuple()
    end

    @floats ~w(exp expm1 log log1p sigmoid cos sin tan cosh sinh tanh acos asin atan acosh asinh atanh
               sqrt rsqrt cbrt erf erfc erf_inv abs ceil conjugate floor negate round sign is_nan
               is_infinity)a

    defp one_tensor(x, n) do
      complex = Nx.as_type(x, :c64)

      for(name <- @floats, do: apply(Nx, name, [x])) ++
        for(
          name <- ~w(bitwise_not count_leading_zeros population_count)a,
          do: apply(Nx, name, [n])
        ) ++
        [Nx.real(complex), Nx.imag(complex), Nx.bitcast(x, :s32)]
    end

    defp two_tensors(x, n) do
      floats = ~w(add subtract multiply pow remainder divide atan2 min max equal not_equal greater
                  less greater_equal less_equal logical_and logical_or logical_xor)a

      integers = ~w(quotient bitwise_and bitwise_or bitwise_xor left_shift right_shift)a

      for(name <- floats, do: apply(Nx, name, [x, n])) ++
        for(name <- integers, do: apply(Nx, name, [n, n]))
    end

    defp shapes(x, i) do
      [
        Nx.reshape(x, {9}),
        Nx.squeeze(Nx.sum(x, axes: [0], keep_axes: true)),
        Nx.broadcast(x, {2, 3, 3}),
        Nx.transpose(x),
        Nx.reverse(x),
        Nx.pad(x, 0, [{1, 1, 0}, {0, 0, 1}]),
        Nx.concatenate([x, x]),
        Nx.stack([x, x]),
        Nx.select(Nx.greater(x, 0), x, 1),
        Nx.clip(x, 0, 1),
        Nx.slice(x, [0, 1], [1, 2]),
        Nx.slice(Nx.cos(x), [0, i], [1, 2]),
        Nx.put_slice(x, [0, 0], Nx.sin(x)),
        Nx.put_slice(x, [0, i], Nx.tan(x)),
        Nx.add(Nx.iota({3, 3}, axis: 0), x),
        Nx.add(Nx.eye(3), x)
      ]
    end

    defp indices(x, n) do
      [
        Nx.gather(x, n[[.., 0..1]]),
        Nx.indexed_add(x, n[[.., 0..1]], x[0]),
        Nx.indexed_put(x, n[[.., 0..1]], x[0])
      ]
    end

    defp blocks(x, n) do
      {q, _r} = Nx.LinAlg.qr(x)
      {values, _vectors} = Nx.LinAlg.eigh(x)
      {u, _s, _v} = Nx.LinAlg.svd(x)
      {p, _l, _u} = Nx.LinAlg.lu(x)
      {top, _indices} = Nx.top_k(x, k: 2)

      for(
        name <- ~w(cumulative_sum cumulative_product cumulative_min cumulative_max)a,
        do: apply(Nx, name, [x])
      ) ++
        for(name <- ~w(fft2 ifft2 rfft irfft logical_not phase)a, do: apply(Nx, name, [x])) ++
        [Nx.all_close(x, n), Nx.take(x, n), Nx.take_along_axis(x, n)] ++
        [Nx.LinAlg.cholesky(x), Nx.LinAlg.solve(x, x), Nx.LinAlg.determinant(x)] ++
        [q, values, u, p, top]
    end

    # The nodes of an expression, each once.
    defp nodes(expressions) do
      {_, nodes} = Composite.traverse(expressions, %{}, &walk/2)
      Map.values(nodes)
    end

    defp walk(%T{data: %Expr{id: id}} = node, seen) when is_map_key(seen, id), do: {node, seen}

    defp walk(%T{data: %Expr{id: id}} = node, seen) do
      {_args, seen} = Tree.apply_args(node, :scope, Map.put(seen, id, node), &walk/2)
      {node, seen}
    end

    defp walk(other, seen), do: {other, seen}

    defp divided(%T{data: %Expr{op: :block, args: [block, arguments, _, _]}}),
      do: {:block, Operation.block(block, arguments)}

    defp divided(%T{data: %Expr{op: name, args: arguments}}),
      do: {name, Operation.split(name, arguments)}

    setup_all do
      matrix = &Nx.template({3, 3}, &1)

      expressions =
        Nx.Defn.debug_expr(&everything/3).(matrix.(:f32), matrix.(:s32), Nx.template({}, :s32))

      known = [:block | Keyword.keys(Operation.all())]
      nodes = for node <- nodes(expressions), node.data.op in known, do: node
      %{divided: Enum.map(nodes, &divided/1)}
    end

    test "nodes of expressions divide into what the core has, attribute by attribute", context do
      core = Map.new(Operations.all(), fn {name, fields} -> {name, Keyword.keys(fields)} end)

      for {name, {operation, inputs}} <- context.divided do
        {operation, attributes} = if is_tuple(operation), do: operation, else: {operation, %{}}
        assert is_map_key(core, operation), "#{name} divides into #{operation}, which core lacks"
        assert Enum.sort(Map.keys(attributes)) == Enum.sort(core[operation]), "#{operation}"
        assert Enum.all?(inputs, &(is_struct(&1, T) or is_integer(&1))), "#{operation}"
      end
    end

    test "all operations and blocks of the table were among them", context do
      names = Enum.uniq(for {name, _} <- context.divided, do: name)
      assert Keyword.keys(Operation.all()) -- names == []

      blocks = for {:block, {operation, _}} <- context.divided, do: operation
      names = Enum.uniq(for one <- blocks, do: if(is_tuple(one), do: elem(one, 0), else: one))
      assert length(names) == 21
    end

    test "starts that are numbers are moved into the tensor, others are inputs" do
      t = Nx.template({3, 4}, :f32)
      start = Nx.template({}, :s64)

      assert Operation.split(:slice, [t, [5, -2], [2, 3], [1, 1]]) ==
               {{:slice, %{starts: [1, 0], lengths: [2, 3], strides: [1, 1]}}, [t]}

      assert Operation.split(:slice, [t, [5, start], [2, 3], [1, 1]]) ==
               {{:dynamic_slice, %{lengths: [2, 3], strides: [1, 1]}}, [t, 5, start]}

      part = Nx.template({2, 2}, :f32)

      assert Operation.split(:put_slice, [t, [2, 0], part]) ==
               {{:put_slice, %{starts: [1, 0]}}, [t, part]}

      assert Operation.split(:put_slice, [t, [start, 0], part]) ==
               {:dynamic_put_slice, [t, part, start, 0]}
    end
  end
end
