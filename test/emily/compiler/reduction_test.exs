# Without Nx there is nothing to compile.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Compiler.ReductionTest do
    @moduledoc """
    Reductions with functions that no program of elementwise operations can say.
    """

    use ExUnit.Case, async: true

    import Nx.Defn

    alias Nx.Defn.Evaluator

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    # What the function gives on Nx.BinaryBackend and compiled, with the passes and without them.
    defp assert_same(fun, arguments) do
      expected = Nx.Defn.jit_apply(fun, arguments, compiler: Evaluator)

      for passes <- [:all, :none] do
        options = [compiler: Emily.Compiler, native_fallback: :raise, passes: passes]
        result = fun |> Nx.Defn.jit_apply(arguments, options) |> Nx.backend_copy(Nx.BinaryBackend)
        assert Nx.to_template(result) == Nx.to_template(expected)
        assert close?(result, expected), "expected #{inspect(expected)}, got: #{inspect(result)}"
      end

      expected
    end

    defp close?(one, other) do
      [one, other] = for t <- [one, other], do: Nx.devectorize(t)
      Nx.to_number(Nx.all_close(one, other, rtol: 1.0e-5)) == 1
    end

    defp operations(fun, arguments) do
      text = Emily.Compiler.explain(fun, arguments, passes: :none)
      [line] = Regex.run(~r/^after: (.*)$/m, text, capture: :all_but_first)
      line
    end

    # Each in all ways in which a tensor can be reduced.
    defp everywhere(fun) do
      fun = fn a, b -> a |> fun.(b) |> Nx.as_type(a.type) end

      for type <- [:s32, :f32, :u8],
          axes <- [nil, [0], [1], [0, 2]],
          keep_axes <- [false, true] do
        x = Nx.iota({2, 3, 4}, type: type)
        options = [keep_axes: keep_axes] ++ if axes, do: [axes: axes], else: []
        assert_same(&Nx.reduce(&1, 1, options, fun), [x])
      end

      x = Nx.iota({5, 6}, type: :s32)

      for options <- [
            [],
            [padding: :same],
            [strides: [2, 1], padding: [{1, 0}, {0, 2}]],
            [window_dilations: [1, 2], padding: [{-1, 1}, {0, 0}]]
          ],
          do: assert_same(&Nx.window_reduce(&1, 2, {2, 3}, options, fun), [x])

      assert_same(&Nx.reduce(&1, 2, fun), [Nx.tensor(3)])
    end

    defn grown(a, b) do
      {_i, a} =
        while {i = 0, a}, i < 2 do
          {i + 1, a + 1}
        end

      a - b
    end

    defn steps_to_one(a, b) do
      {steps, _a} =
        while {steps = 0, a}, a > 1 do
          {steps + 1, if(Nx.remainder(a, 2) == 0, do: Nx.quotient(a, 2), else: 3 * a + 1)}
        end

      steps + 2 * b
    end

    test "a function may have loops, also of other rounds for each element" do
      everywhere(fn a, b -> grown(a, b) end)
      assert_same(&Nx.reduce(&1, 0, [axes: [1]], fn a, b -> steps_to_one(a, b) end), [even()])

      # Nx.BinaryBackend takes no window of a scalar.
      options = [compiler: Emily.Compiler, native_fallback: :raise]
      scalar = &Nx.window_reduce(&1, 2, {}, fn a, b -> grown(a, b) end)
      assert Nx.to_number(Nx.Defn.jit_apply(scalar, [3], options)) == 3
    end

    defp even, do: Nx.iota({3, 5}, type: :s32)

    # Of what is not greater than 4 the loop would never end.
    defn guarded(a, b) do
      if a > 4 do
        {_a, b} =
          while {a, b}, a != 4 do
            {a - 1, b + 1}
          end

        b
      else
        if b > 100, do: b - a, else: a + b
      end
    end

    test "a loop goes on for those elements alone that are in its branch" do
      for axes <- [[0], [1], [0, 1]],
          do: assert_same(&Nx.reduce(&1, 1, [axes: axes], fn a, b -> guarded(a, b) end), [even()])
    end

    defn nested(a, b) do
      {_i, _j, _a, b} =
        while {i = 0, j = 0, a, b}, i < a do
          {j, _i, b} =
            while {j, i, b}, j < i do
              {j + 1, i, b + Nx.max(j, i)}
            end

          {i + 1, j, a, b}
        end

      b
    end

    test "loops in loops" do
      for axes <- [[0], [1]],
          do: assert_same(&Nx.reduce(&1, 1, [axes: axes], fn a, b -> nested(a, b) end), [even()])
    end

    @weights Nx.tensor([[1, 2], [3, 4]], backend: Nx.BinaryBackend)

    test "a function may make tensors and have some of its own" do
      everywhere(fn a, b -> Nx.sum(Nx.stack([a, b, Nx.subtract(a, Nx.multiply(2, b))])) end)
      everywhere(fn a, b -> Nx.reduce_max(Nx.multiply(@weights, Nx.add(a, b)), axes: [0])[0] end)

      everywhere(fn a, b ->
        a |> Nx.add(@weights[1]) |> Nx.subtract(b) |> Nx.clip(-5, 30) |> Nx.sum()
      end)

      everywhere(fn a, b ->
        [Nx.reshape(a, {1, 1}), Nx.broadcast(b, {1, 2})]
        |> Nx.concatenate(axis: 1)
        |> Nx.transpose()
        |> Nx.reverse()
        |> Nx.add(Nx.iota({3, 2}))
        |> Nx.logical_not()
        |> Nx.sum(axes: [1])
        |> Nx.multiply(Nx.squeeze(Nx.new_axis(a, 0)))
        |> Nx.product()
      end)
    end

    test "what is the same for all elements is computed for all of them at once" do
      x = Nx.iota({3, 50})
      stacked = fn a, b -> Nx.sum(Nx.stack([a, b])) end
      text = operations(&Nx.reduce(&1, 0, [axes: [0]], stacked), [x])
      assert text =~ "1 while" and text =~ "1 stack" and not (text =~ "dynamic_put_slice")
    end

    test "where elements have to be taken one by one, they are" do
      sorted = fn a, b -> Nx.sort(Nx.stack([a, b, 3]))[1] end
      everywhere(sorted)
      text = operations(&Nx.reduce(&1, 0, [axes: [0]], sorted), [Nx.iota({3, 50})])
      assert text =~ "1 dynamic_put_slice"

      everywhere(fn a, b -> Nx.add(b, Nx.take(@weights[0], Nx.as_type(Nx.min(a, 1), :s32))) end)
      everywhere(fn a, b -> Nx.cumulative_sum(Nx.stack([a, b, a]))[-1] end)

      everywhere(fn a, b ->
        cond = fn a -> Nx.Defn.Expr.cond([{Nx.greater(a, 4), Nx.argmax(Nx.stack([a, b]))}], a) end
        b |> Nx.add(cond.(a)) |> Nx.as_type(:s32)
      end)
    end

    test "functions of Elixir are called, once for an element, in order" do
      me = self()

      fun = fn a, b ->
        Nx.runtime_call(Nx.template({}, :s32), {a, b}, me, fn {a, b}, me ->
          send(me, {:called, Nx.to_number(a)})
          a |> Nx.multiply(2) |> Nx.add(b) |> Nx.as_type(:s32)
        end)
      end

      options = [compiler: Emily.Compiler, native_fallback: :raise]
      x = Nx.tensor([[3, 1], [2, 5]])
      result = Nx.Defn.jit_apply(&Nx.reduce(&1, 0, [axes: [0]], fun), [x], options)
      assert Nx.to_flat_list(result) == [10, 12]

      assert {:messages, [called: 3, called: 2, called: 1, called: 5]} =
               Process.info(me, :messages)
    end

    test "in loops and branches, of vectorized tensors, and in the gradient of what is around" do
      fun = fn x ->
        Nx.Defn.grad(x, fn x ->
          y = Nx.Defn.Kernel.stop_grad(Nx.reduce(x, 0, fn a, b -> grown(a, b) end))
          Nx.sum(Nx.multiply(Nx.sin(x), y))
        end)
      end

      assert_same(fun, [Nx.tensor([0.5, 1.5, -2.0])])
      assert_same(&in_a_loop/1, [Nx.tensor([1, 2, 3])])

      rows = Nx.iota({2, 3}) |> Nx.vectorize(:rows)
      result = assert_same(&Nx.sum(Nx.reduce(&1, 0, fn a, b -> grown(a, b) end)), [rows])
      assert result.vectorized_axes == [rows: 2]
    end

    defn in_a_loop(x) do
      {_i, x} =
        while {i = 0, x}, i < 3 do
          {i + 1, if(Nx.sum(x) > 0, do: x - Nx.reduce(x, 0, &grown/2), else: x + 1)}
        end

      x
    end

    test "a function that never ends is given up with its caller" do
      me = self()
      endless = fn a, _b -> forever(Nx.io_call(a, fn _ -> send(me, :begun) end)) end
      stream = Emily.Stream.new(:cpu)
      options = [compiler: Emily.Compiler, native_fallback: :raise, stream: stream]

      caller =
        spawn(fn ->
          Nx.Defn.jit_apply(&Nx.reduce(&1, 0, endless), [Nx.tensor([1, 2])], options)
        end)

      assert_receive :begun, 60_000
      Process.exit(caller, :kill)
      # The stream has one thread for all.
      result = Nx.Defn.jit_apply(fn x -> while_small(x) end, [2], options)
      assert Nx.to_number(result) == 128
    end

    defn while_small(x) do
      while x, x < 100 do
        x * 2
      end
    end

    defn forever(a) do
      {a, _one} =
        while {a, one = 1}, one > 0 do
          {a + 1, one}
        end

      a
    end
  end
end
