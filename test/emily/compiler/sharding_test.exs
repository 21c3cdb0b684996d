# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Compiler.ShardingTest do
    use ExUnit.Case, async: true

    alias Nx.Mesh

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    @square %Mesh{name: "square", shape: {2, 2}}
    @row %Mesh{name: "row", shape: {2}}

    defp sharded(fun, mesh, shards, options),
      do:
        Nx.Defn.shard_jit(
          fun,
          mesh,
          [compiler: Emily.Compiler, native_fallback: :raise] ++ options
        ).(shards)

    defp lists(results) do
      for result <- results do
        [result] |> Nx.Defn.Composite.flatten_list() |> Enum.map(&Nx.to_list/1)
      end
    end

    # The shards of x, whose rows and columns are divided, and of y, whose rows are.
    defp quarters do
      x = Nx.iota({4, 2})
      y = Nx.multiply(Nx.iota({4, 1}), 100)

      for row <- 0..1, column <- 0..1 do
        rows = (2 * row)..(2 * row + 1)
        [x[[rows, column..column]], y[[rows]]]
      end
    end

    test "what shards give together is what whole tensors give" do
      shardings = [%{0 => [0], 1 => [1]}, %{0 => [0]}]

      fun = fn x, y ->
        {Nx.add(x, y), %{double: Nx.multiply(y, 2), sum: Nx.new_axis(Nx.sum(x), 0)}}
      end

      assert lists(sharded(fun, @square, quarters(), input_shardings: shardings)) == [
               [[[0], [102]], [[0], [200]], [28]],
               [[[1], [103]], [[0], [200]], [28]],
               [[[204], [306]], [[400], [600]], [28]],
               [[[205], [307]], [[400], [600]], [28]]
             ]
    end

    test "axes have numbers from either end, and names" do
      shards = for part <- [[[0, 1]], [[2, 3]]], do: [Nx.tensor(part, names: [:batch, :x])]

      for axis <- [0, -2, :batch] do
        results = sharded(&Nx.negate/1, @row, shards, input_shardings: [%{axis => [0]}])
        assert [%{names: [:batch, :x]}, _] = results
        assert lists(results) == [[[[0, -1]]], [[[-2, -3]]]]
      end
    end

    test "one axis may be divided among several of the mesh, in their order" do
      shards = for row <- 0..3, do: [Nx.tensor([[row, 10 * row]])]
      transposed = for row <- 0..3, do: [[[row], [10 * row]]]
      results = sharded(&Nx.transpose/1, @square, shards, input_shardings: [%{0 => [0, 1]}])
      assert lists(results) == transposed

      # The second device has the third row where the first axis of the mesh is the inner one.
      sums = sharded(&Nx.cumulative_sum/1, @square, shards, input_shardings: [%{0 => [1, 0]}])
      assert lists(sums) == [[[[0, 0]]], [[[3, 30]]], [[[2, 20]]], [[[6, 60]]]]
    end

    test "results are divided as asked for, and else as their shapes follow the arguments'" do
      shards = for at <- 0..1, do: [Nx.add(Nx.iota({2, 2}), 4 * at)]
      options = [input_shardings: [%{0 => [0]}]]
      product = fn x -> Nx.dot(x, Nx.transpose(x)) end

      # Both axes shrink.
      assert [[whole], [whole]] = lists(sharded(product, @row, shards, options))
      assert whole == Nx.to_list(product.(Nx.iota({4, 2})))

      asked = options ++ [output_shardings: [%{1 => [0]}]]
      assert [[left], [right]] = lists(sharded(product, @row, shards, asked))
      assert Enum.zip_with(left, right, &(&1 ++ &2)) == whole

      # It asks for its size.
      fixed = fn x -> Nx.reshape(x, {8}) end

      assert lists(sharded(fixed, @row, shards, options)) ==
               List.duplicate([Enum.to_list(0..7)], 2)

      same = fn x -> {Nx.iota({2}), Nx.sum(x, axes: [0]), Nx.sum(x, axes: [1])} end

      assert [[[0, 1], [12, 16], [1, 5]], [_, _, [9, 13]]] =
               lists(sharded(same, @row, shards, options))
    end

    test "a mesh of one device, containers, hooks, and the evaluator" do
      one = %Mesh{name: "one", shape: {1}}
      fun = fn %{x: x}, {y} -> Nx.io_call(Nx.add(x, y), :seen) end
      me = self()
      shards = [[%{x: Nx.tensor([1, 2])}, {3}]]

      for native <- [true, false] do
        options = [
          hooks: %{seen: &send(me, {:seen, Nx.to_list(&1)})},
          input_shardings: [%{0 => [0]}, %{}],
          native: native
        ]

        assert lists(sharded(fun, one, shards, options)) == [[[4, 5]]]
        assert_received {:seen, [4, 5]}
      end
    end

    test "a function is compiled once for a mesh and its shardings" do
      me = self()

      fun = fn x ->
        send(me, :traced)
        Nx.add(x, 1)
      end

      shards = [[Nx.tensor([1])], [Nx.tensor([2])]]
      options = [input_shardings: [%{0 => [0]}]]
      first = sharded(fun, @row, shards, options)
      {:messages, traced} = Process.info(me, :messages)
      assert lists(sharded(fun, @row, shards, options)) == lists(first)
      assert {:messages, ^traced} = Process.info(me, :messages)
      assert lists(sharded(fun, @row, shards, input_shardings: [%{}])) == [[[2]], [[2]]]
    end

    test "what does not fit is refused in words" do
      x = Nx.iota({2, 2})
      two = [[x], [x]]

      for {mesh, shards, options, text} <- [
            {@row, two, [],
             "expected :input_shardings to be a list of 1 maps, one for each argument, got: nil"},
            {@row, two, [input_shardings: [%{}, %{}]],
             "expected :input_shardings to be a list of 1 maps, one for each argument, got: [%{}, %{}]"},
            {@row, two, [input_shardings: [%{0 => [1]}]],
             "expected a sharding to have a list of axes of a mesh that has 1, got: [1]"},
            {@row, two, [input_shardings: [%{0 => 0}]],
             "expected a sharding to have a list of axes of a mesh that has 1, got: 0"},
            {@row, two, [input_shardings: [[0]]],
             "expected a sharding to have a map of axes to lists of axes of the mesh, got: [0]"},
            {@square, two, [input_shardings: [%{0 => [0], 1 => [0]}]],
             "expected a sharding to have each axis of the mesh to be used once, got: %{0 => [0], 1 => [0]}"},
            {@row, two, [input_shardings: [%{0 => [0], -2 => []}]],
             "expected a sharding to have each axis to be named once, got: %{-2 => [], 0 => [0]}"},
            {@square, two, [input_shardings: [%{}]],
             ~s(expected 4 lists of arguments, one for each device of the mesh "square", got: 2)},
            {%Mesh{name: "none", shape: {0}}, two, [input_shardings: [%{}]],
             "expected the mesh to have a shape of positive integers, got: {0}"},
            {@row, two, [input_shardings: [%{0 => [0]}], output_shardings: [%{}, %{}]],
             "expected :output_shardings to be a list of 1 maps, one for each tensor that the function gives, " <>
               "got: [%{}, %{}]"},
            {@row, [[x], [x, x]], [input_shardings: [%{}]],
             "expected shard 1 to have 1 tensors, as shard 0 has, got: 2"}
          ] do
        error = assert_raise ArgumentError, fn -> sharded(&Nx.negate/1, mesh, shards, options) end
        assert error.message == text
      end

      assert_raise ArgumentError, ~r/expected shard 1 to have .*as shard 0 has, got: .*/s, fn ->
        sharded(&Nx.negate/1, @row, [[x], [Nx.iota({2})]], input_shardings: [%{}])
      end

      assert_raise ArgumentError, ~r/given axis \(3\) invalid for shape with rank 2/, fn ->
        sharded(&Nx.negate/1, @row, two, input_shardings: [%{3 => [0]}])
      end

      odd = %Mesh{name: "odd", shape: {3}}

      assert_raise ArgumentError,
                   ~r/axes that its pieces divide, for {2, 2}, got: %{0 => \[0\]}/,
                   fn ->
                     sharded(&Nx.negate/1, odd, [[x], [x], [x]],
                       input_shardings: [%{}],
                       output_shardings: [%{0 => [0]}]
                     )
                   end
    end
  end
end
