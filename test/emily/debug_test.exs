# Without Nx there is nothing to look at.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.DebugTest do
    use ExUnit.Case, async: true

    alias Emily.{Debug, Operation}

    @moduletag :nx

    doctest Debug

    test "operations are what they are where nothing is looked at" do
      t = Nx.template({2, 2}, :f32)
      i = Nx.template({2, 2}, :s64)

      assert Operation.split(:dot, [t, [1], [], t, [0], []]) ==
               {{:dot, %{contract_a: [1], batch_a: [], contract_b: [0], batch_b: []}}, [t, t]}

      assert Operation.split(:gather, [t, i, [axes: [0, 1]]]) ==
               {{:gather, %{axes: [0, 1]}}, [t, i]}

      assert Operation.block(%Nx.Block.Take{axis: 1}, [t, i]) == {{:take, %{axis: 1}}, [t, i]}
      assert Operation.block(%Nx.Block.LinAlg.Solve{}, [t, t]) == {:solve, [t, t]}
    end

    test "and nobody asks whether something is" do
      {:ok, {Operation, [imports: imports, atoms: atoms]}} =
        :beam_lib.chunks(:code.which(Operation), [:imports, :atoms])

      assert {Enum, :all?, 2} in imports
      assert for({Debug, name, _arity} <- imports, do: name) == []
      assert for({_number, atom} <- atoms, atom in [:checked, :finite, :bounds], do: atom) == []
    end

    test "an index out of bounds is an error all the same" do
      x = Nx.tensor([1.0, 2.0, 3.0], backend: Emily.Backend)
      late = Nx.add(Nx.tensor([0, 2], backend: Emily.Backend), 1)
      taken = Nx.take(x, late)

      assert_raise Emily.Error, ~r/take failed: expected each index to be within its axis/, fn ->
        Nx.to_binary(taken)
      end
    end
  end

  defmodule EmilyDebugTest.Model do
    @moduledoc """
    A user's module, which Emily's are not.
    """

    # Not the last call, which would leave nothing of this function on the stack.
    def loss(x), do: x |> Nx.dot(x) |> Nx.multiply(2)
  end

  defmodule Emily.DebugOnTest do
    @moduledoc """
    What is looked at is decided when Emily is compiled, so the modules that decide are compiled here
    with the settings on, for all of the VM, and loaded again as they were afterwards.
    """

    use ExUnit.Case, async: false

    import Nx, only: [tensor: 1]

    alias Emily.{Debug, Operation}

    @moduletag :nx

    @sources %{Debug => "debug.ex", Operation => "operation.ex"}
    @settings [:debug_bounds_check, :debug_detect_nan_inf]

    setup_all do
      backend = Nx.default_backend()
      Nx.global_default_backend(Emily.Backend)
      Enum.each(@settings, &Application.put_env(:emily, &1, true))
      compile([Debug, Operation])

      on_exit(fn ->
        Nx.global_default_backend(backend)
        Enum.each(@settings, &Application.delete_env(:emily, &1))

        for module <- Map.keys(@sources) do
          :code.purge(module)
          {:module, ^module} = :code.load_file(module)
        end
      end)
    end

    defp compile(modules) do
      Code.put_compiler_option(:ignore_module_conflict, true)
      folder = Path.expand("../../lib/emily", __DIR__)
      for module <- modules, do: Code.compile_file(Path.join(folder, @sources[module]))
    after
      Code.put_compiler_option(:ignore_module_conflict, false)
    end

    # In a way that hides from this module's compiler what the modules are otherwise.
    defp call(module, name, arguments), do: apply(module, name, arguments)

    # Nobody can look at its elements yet.
    defp computed(tensor), do: Nx.add(tensor, 0)

    defp reason(tensor) do
      error = assert_raise Emily.Error, fn -> Nx.to_binary(tensor) end
      error.reason
    end

    test "the settings that Emily was compiled with can be read" do
      assert call(Debug, :settings, []) == [debug_bounds_check: true, debug_detect_nan_inf: true]
    end

    test "operations come with what must hold, whoever asks for them" do
      t = Nx.template({2, 2}, :f32)
      i = Nx.template({2, 2}, :s64)

      assert {{:checked, %{op: {:gather, %{axes: [0, 1]}}, of: [:bounds]}}, [^t, ^i]} =
               call(Operation, :split, [:gather, [t, i, [axes: [0, 1]]]])

      assert {{:checked, %{op: :solve, of: [:finite]}}, [^t, ^t]} =
               call(Operation, :block, [%Nx.Block.LinAlg.Solve{}, [t, t]])

      assert call(Operation, :split, [:add, [t, t]]) == {:add, [t, t]}

      %{data: %{op: :dot, args: arguments}} = Nx.Defn.debug_expr(&Nx.dot/2).(t, t)

      assert {{:checked, %{op: {:dot, _}, of: [:finite]}}, [_, _]} =
               Operation.split(:dot, arguments)
    end

    test "each operation with indices names the one that is out of bounds" do
      x = Nx.iota({2, 3}, type: :f32)
      along = "from 0 and below 3 along axis 1 of f32[2][3], got: "

      for {index, shown} <- [{3, "3"}, {-1, "-1"}] do
        rows = computed(tensor([[0, 2], [1, index]]))
        at = along <> shown <> " at [1][1] in the indices, s32[2][2]"

        for {name, result} <- [
              gather: Nx.gather(x, rows),
              indexed_add: Nx.indexed_add(x, rows, tensor([1.0, 1.0])),
              indexed_put: Nx.indexed_put(x, rows, tensor([1.0, 1.0])),
              take: Nx.take(x, rows, axis: 1),
              take_along_axis: Nx.take_along_axis(x, rows, axis: 1)
            ] do
          assert reason(result) == "expected an index of #{name} to be #{at}"
        end
      end
    end

    test "of several axes, those that are indexed are told" do
      x = Nx.iota({4, 3, 2})
      rows = computed(tensor([[3, 1], [4, 5]]))

      assert reason(Nx.gather(x, rows, axes: [0, 2])) ==
               "expected an index of gather to be from 0 and below 4 along axis 0 of s32[4][3][2], " <>
                 "got: 4 at [1][0] in the indices, s32[2][2], the first of 2"
    end

    test "vectorized tensors are looked at, too" do
      x = Nx.vectorize(Nx.iota({2, 3}), :x)
      inside = computed(tensor([2, 0]))
      assert Nx.to_flat_list(Nx.take(x, inside)) == [2, 0, 5, 3]
      assert reason(Nx.take(x, Nx.add(inside, 1))) =~ "below 3 along axis 1 of s32[2][3], got: 3"
      indices = Nx.vectorize(computed(tensor([[0, 1], [2, 7]])), :x)
      assert reason(Nx.take_along_axis(x, indices, axis: 0)) =~ "got: 7 at [1][1] in the indices"
    end

    test "indices that are there are refused at once" do
      assert_raise ArgumentError, ~r/got: 5 at \[0\] in the indices, s32\[1\]/, fn ->
        Nx.take(tensor([1, 2]), tensor([5]))
      end
    end

    test "what a product made is told from what it was given" do
      huge = Nx.broadcast(Nx.Constants.max_finite(:f32), {2, 2})

      assert reason(Nx.dot(huge, huge)) ==
               "expected dot of finite numbers to give finite numbers, got: 4 Infinity of 4 elements, " <>
                 "the first one at [0][0] in the output, f32[2][2]"

      bad = Nx.log(tensor([[1.0, -1.0], [1.0, 1.0]]))

      assert reason(Nx.dot(Nx.eye(2, type: :f32), bad)) =~
               "expected dot to be given finite numbers, got: 1 NaN of 4 elements, the first one at " <>
                 "[0][1] in the second input, f32[2][2]; which made "
    end

    test "the first operation that is at fault is named" do
      bad = Nx.dot(tensor([[1.0e30]]), tensor([[1.0e30]]))
      late = bad |> Nx.dot(bad) |> Nx.subtract(bad)
      assert reason(late) =~ "dot of finite numbers"
      assert reason(late) =~ "[0][0] in the output, f32[1][1]"
    end

    test "convolutions and matrices are looked at" do
      bad = Nx.log(tensor([[[-1.0, 1.0, 1.0]]]))

      assert reason(Nx.conv(bad, tensor([[[1.0]]]))) =~
               "expected conv to be given finite numbers, got: 1 NaN of 3 elements"

      large = Nx.multiply(Nx.eye(2, type: :f32), 1.0e30)

      assert reason(Nx.LinAlg.determinant(large)) =~
               "expected determinant of finite numbers to give finite numbers, got: 1 Infinity"
    end

    test "integers and finite numbers pass" do
      x = tensor([[1, 2], [3, 4]])
      assert Nx.to_flat_list(Nx.dot(x, x)) == [7, 10, 15, 22]
      y = Nx.as_type(x, :f32)
      assert Nx.to_flat_list(Nx.dot(y, y)) == [7.0, 10.0, 15.0, 22.0]
    end

    test "functions of defn are looked at" do
      product = Nx.Defn.jit(fn x -> Nx.dot(Nx.log(x), x) end, compiler: Nx.Defn.Evaluator)
      assert reason(product.(tensor([-1.0, 1.0]))) =~ "dot to be given finite numbers"
    end

    test "functions that Emily compiles are looked at" do
      options = [compiler: Emily.Compiler, native_fallback: :raise]

      loss = Nx.Defn.jit(fn x -> x |> Nx.log() |> Nx.dot(x) |> Nx.multiply(2) end, options)
      assert loss.(tensor([1.0, 1.0])) |> Nx.to_number() == 0.0
      late = loss.(tensor([1.0, -1.0]))
      assert reason(late) =~ "expected dot to be given finite numbers, got: 1 NaN of 2 elements"

      parts = Nx.Defn.jit(fn x, i -> x |> Nx.take(Nx.add(i, 1)) |> Nx.gather(i) end, options)
      rows = tensor([[1], [0]])
      assert Nx.to_flat_list(parts.(tensor([5, 6, 7]), rows)) == [6, 7]

      assert reason(parts.(tensor([5, 6]), rows)) =~
               "expected an index of take to be from 0 and below 2 along axis 0 of s32[2], " <>
                 "got: 2 at [0][0] in the indices, s32[2][1]"
    end

    test "the line that asked for the operation is named" do
      late = [-1.0, 1.0] |> tensor() |> Nx.log() |> EmilyDebugTest.Model.loss()
      error = assert_raise Emily.Error, fn -> Nx.to_binary(late) end

      assert error.attributes =~
               ~r{, at: \S*test/emily/debug_test.exs:\d+: EmilyDebugTest.Model.loss/1$}
    end

    test "settings are true or false" do
      Application.put_env(:emily, :debug_bounds_check, :sometimes)

      text = "expected config :emily, debug_bounds_check: to be true or false, got: :sometimes"
      assert_raise ArgumentError, text, fn -> compile([Debug]) end
    after
      Application.put_env(:emily, :debug_bounds_check, true)
    end
  end
end
