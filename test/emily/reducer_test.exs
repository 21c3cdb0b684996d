# Without Nx there are no reductions with functions.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.ReducerTest do
    use ExUnit.Case, async: false

    alias Emily.{Operation, Reducer}

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Emily.Backend)
      :telemetry.attach(__MODULE__, [:emily, :fallback, :start], &__MODULE__.tell/4, self())
      on_exit(fn -> :telemetry.detach(__MODULE__) end)
    end

    def tell(_event, _measurements, metadata, test),
      do: send(test, {:fallback, metadata.operation})

    # The same call on both backends, which must agree and stay on the device.
    defp agrees(fun) do
      numbers = Nx.iota({3, 5}, type: :f32)
      ours = numbers |> fun.() |> Nx.backend_copy(Nx.BinaryBackend)

      theirs =
        Nx.with_default_backend(Nx.BinaryBackend, fn ->
          fun.(Nx.backend_copy(numbers, Nx.BinaryBackend))
        end)

      assert {ours.type, ours.shape, Nx.to_binary(ours)} ==
               {theirs.type, theirs.shape, Nx.to_binary(theirs)}

      refute_received {:fallback, _operation}
    end

    test "elementwise functions become programs" do
      assert {:ok, program} = Reducer.trace(fn x, y -> Nx.add(Nx.multiply(x, 2), y) end, {:f, 32})
      assert program.inputs == [{{:f, 32}, []}, {{:f, 32}, []}]

      assert [constant, multiply, add] = program.instructions
      assert constant.op == {:constant, %{value: 2}}
      assert {multiply.op, multiply.inputs} == {:multiply, [0, 2]}
      assert {add.op, add.inputs} == {:add, [3, 1]}
      assert program.outputs == [4]
    end

    test "what a function uses twice is computed once" do
      square = fn x -> Nx.multiply(x, x) end
      fun = fn x, y -> Nx.add(square.(Nx.subtract(x, y)), Nx.subtract(x, y)) end
      shared = fn x, y -> Nx.subtract(x, y) |> then(&Nx.add(square.(&1), &1)) end
      assert {:ok, %{instructions: four}} = Reducer.trace(fun, {:f, 32})
      assert {:ok, %{instructions: three}} = Reducer.trace(shared, {:f, 32})
      assert {length(four), length(three)} == {4, 3}
    end

    test "a function node of an expression is read as it stands" do
      expression =
        Nx.Defn.debug_expr(fn t -> Nx.reduce(t, 0, fn x, y -> Nx.max(x, y) end) end).(
          Nx.template({4}, :s32)
        )

      [_tensor, _acc, _options, fun] = expression.data.args
      assert {:ok, %{instructions: [%{op: :max, inputs: [0, 1]}]}} = Reducer.trace(fun, {:s, 32})
    end

    test "what is no program of elementwise operations says so" do
      other = Nx.tensor(2.0)

      for {fun, reason} <- [
            {fn x, y -> Nx.sum(Nx.stack([x, y])) end, "sum"},
            {fn x, _y -> Nx.broadcast(x, {2}) end, "a tensor that is no scalar"},
            {fn x, y -> if Nx.to_number(x) > 1, do: x, else: y end,
             "to_binary, which needs values"},
            {fn x, _y -> Nx.add(x, other) end, "backend"}
          ] do
        assert {:error, text} = Reducer.trace(fun, {:f, 32})
        assert text =~ reason
      end
    end

    test "every elementwise operation has as many inputs in a program as it takes" do
      for {name, arity} <- Operation.all(), Operation.elementwise?(name), arity <= 2 do
        inputs = Enum.take([0, 1], arity)
        operation = if name == :constant, do: {:constant, %{value: 1}}, else: name
        inputs = if name == :constant, do: [], else: inputs
        scalar = {{:s, 32}, []}
        instruction = %{op: operation, outs: [scalar], inputs: inputs}
        cast = %{op: :as_type, outs: [scalar], inputs: [2]}
        program = %{inputs: [scalar, scalar], instructions: [instruction, cast], outputs: [3]}

        reduced =
          try do
            [a, b] = for _ <- 1..2, do: Emily.op(:iota, [], type: {:s, 32}, shape: [])
            out = [type: {:s, 32}, shape: []]
            Emily.op(:reduce, [a, b], [axes: nil, keep_axes: false, fun: program] ++ out)
          rescue
            error in ArgumentError -> error.message
          end

        # Whether a type suits the operation is not asked here.
        if is_binary(reduced), do: refute(reduced =~ "elementwise", "#{name}: #{reduced}")
      end
    end

    test "functions run as programs, eagerly and in a defn" do
      agrees(&Nx.reduce(&1, 3, fn x, y -> Nx.add(x, y) end))
      agrees(&Nx.reduce(&1, 0, [axes: [1]], fn x, y -> Nx.max(x, y) end))
      agrees(&Nx.reduce(&1, 0, [axes: [0], keep_axes: true], fn x, _y -> x end))
      agrees(&Nx.reduce(&1, 0, [axes: [0]], fn _x, _y -> 7 end))
      jitted = Nx.Defn.jit(fn t -> Nx.reduce(t, 1, [axes: [0]], fn x, y -> Nx.add(x, y) end) end)
      agrees(jitted)
      agrees(&Nx.window_reduce(&1, 0, {2, 2}, [padding: :same], fn x, y -> Nx.add(x, y) end))
    end

    test "other functions are called with vectorized tensors" do
      sum = fn x, y -> Nx.sum(Nx.stack([x, y])) end
      agrees(&Nx.reduce(&1, 0, sum))
      agrees(&Nx.reduce(&1, 0, [axes: [1]], sum))
      agrees(&Nx.window_reduce(&1, 0, {2, 3}, [padding: :same, strides: [1, 2]], sum))

      dilated = [padding: [{0, 0}, {1, 0}], window_dilations: [1, 2]]
      agrees(&Nx.window_reduce(&1, 0, {2, 2}, dilated, sum))

      agrees(fn t ->
        zero = Nx.tensor(0.0)
        Nx.reduce(t, 0, [axes: [0]], fn x, y -> Nx.add(Nx.add(x, zero), y) end)
      end)
    end

    test "a defn's function that makes tensors leaves the device, and says so" do
      fun = fn t -> Nx.reduce(t, 0, fn x, y -> Nx.sum(Nx.stack([x, y])) end) end

      ExUnit.CaptureLog.capture_log(fn ->
        assert Nx.to_number(Nx.Defn.jit(fun).(Nx.iota({4}, type: :f32))) == 6.0
      end)

      assert_received {:fallback, :reduce}
    end
  end
end
