if Code.ensure_loaded?(Axon) do
  defmodule Emily.ModelsTest do
    @moduledoc """
    Axon's own definitions through `Emily.Compiler`, against `Nx.Defn.Evaluator` on `Nx.BinaryBackend`.
    """

    use ExUnit.Case, async: true

    alias Nx.Defn.{Composite, Evaluator}

    @moduletag :nx
    @moduletag :native
    # Axon logs the options that it passes on.
    @moduletag :capture_log

    # Both round in f32, in other orders.
    @tolerance 5.0e-4

    defp mlp do
      Axon.input("x", shape: {nil, 6})
      |> Axon.dense(16, activation: :relu)
      |> Axon.layer_norm()
      |> Axon.dense(8, activation: :gelu)
      |> Axon.dropout(rate: 0.25, seed: 5)
      |> Axon.dense(3, activation: :softmax)
    end

    defp lenet do
      Axon.input("x", shape: {nil, 12, 12, 1})
      |> Axon.conv(4, kernel_size: 3, activation: :tanh, padding: :same)
      |> Axon.batch_norm()
      |> Axon.avg_pool(kernel_size: 2, strides: 2)
      |> Axon.conv(6, kernel_size: 3, activation: :silu)
      |> Axon.max_pool(kernel_size: 2)
      |> Axon.flatten()
      |> Axon.dense(8, activation: :tanh)
      |> Axon.dense(3, activation: :softmax)
    end

    defp recurrent do
      {sequence, _state} =
        Axon.input("x", shape: {nil, 5}) |> Axon.embedding(7, 8) |> Axon.lstm(8)

      sequence
      |> Axon.nx(& &1[[0..-1//1, -1]])
      |> Axon.dense(3, activation: :softmax)
    end

    defp data(shape, seed) do
      {numbers, _key} = Nx.Random.normal(Nx.Random.key(seed), shape: shape)
      numbers
    end

    defp labels(count),
      do: Nx.equal(Nx.remainder(Nx.iota({count, 1}), 3), Nx.iota({1, 3}))

    for {name, shape} <- [mlp: {4, 6}, lenet: {2, 12, 12, 1}] do
      test "a forward pass of #{name}" do
        model = unquote(name)()
        x = data(unquote(Macro.escape(shape)), 1)
        {init, predict} = Axon.build(model, seed: 7)
        state = jit(init, [x, Axon.ModelState.empty()], Evaluator)
        assert_agree(predict, [state, x])
      end

      test "steps of training #{name}" do
        x = data(unquote(Macro.escape(shape)), 2)
        batch = {x, labels(Nx.axis_size(x, 0))}
        optimizer = Polaris.Optimizers.adamw(learning_rate: 0.01)
        {init, step} = train(unquote(name)(), optimizer)
        state = jit(init, [batch, Axon.ModelState.empty()], Evaluator)

        fun = fn batch, state ->
          state = Enum.reduce(1..3, state, fn _, state -> step.(batch, state) end)
          {state.loss, state.model_state}
        end

        assert_agree(fun, [batch, state])
      end
    end

    test "a recurrent network" do
      x = Nx.tensor([[1, 0, 3, 6, 2], [5, 5, 4, 0, 1]])
      {init, predict} = Axon.build(recurrent(), seed: 7)
      state = jit(init, [x, Axon.ModelState.empty()], Evaluator)
      assert_agree(predict, [state, x])
    end

    test "a training loop with metrics learns what the evaluator's learns" do
      batches = for seed <- 1..4, do: {data({6, 6}, seed), labels(6)}

      [ours, theirs] =
        for {compiler, backend} <- [
              {Emily.Compiler, Emily.Backend},
              {Evaluator, Nx.BinaryBackend}
            ] do
          Nx.with_default_backend(backend, fn ->
            mlp()
            |> Axon.Loop.trainer(:categorical_cross_entropy, :sgd, log: 0, seed: 3)
            |> Axon.Loop.run(batches, Axon.ModelState.empty(), epochs: 2, compiler: compiler)
          end)
        end

      agree!(ours.data, theirs.data)
    end

    defp train(model, optimizer),
      do: Axon.Loop.train_step(model, :categorical_cross_entropy, optimizer, seed: 7)

    defp assert_agree(fun, arguments) do
      expected = jit(fun, arguments, Evaluator)

      for passes <- [:all, :none] do
        agree!(jit(fun, arguments, Emily.Compiler, passes: passes), expected)
      end
    end

    defp jit(fun, arguments, compiler, options \\ [])

    defp jit(fun, arguments, Emily.Compiler, options) do
      arguments = for argument <- arguments, do: moved(argument, Emily.Backend)
      options = [compiler: Emily.Compiler, native_fallback: :raise] ++ options
      Nx.Defn.jit_apply(fun, arguments, options)
    end

    defp jit(fun, arguments, Evaluator, []) do
      arguments = for argument <- arguments, do: moved(argument, Nx.BinaryBackend)

      Nx.with_default_backend(Nx.BinaryBackend, fn ->
        Nx.Defn.jit_apply(fun, arguments, compiler: Evaluator)
      end)
    end

    defp moved(container, backend),
      do: Composite.traverse(container, &Nx.backend_copy(&1, backend))

    defp agree!(ours, theirs) do
      [ours, theirs] = for container <- [ours, theirs], do: Composite.flatten_list([container])
      assert length(ours) == length(theirs)

      for {one, other} <- Enum.zip(ours, theirs) do
        one = Nx.backend_copy(one, Nx.BinaryBackend)
        assert {Nx.type(one), Nx.shape(one)} == {Nx.type(other), Nx.shape(other)}

        close? = Nx.all_close(one, other, atol: @tolerance, rtol: @tolerance)
        assert Nx.to_number(close?) == 1, "expected #{inspect(other)}, got: #{inspect(one)}"
      end
    end
  end
else
  defmodule Emily.ModelsTest do
    use ExUnit.Case, async: true

    @tag :nx
    @tag skip: "Axon is not among the dependencies"
    test "Axon's own definitions agree with the evaluator"
  end
end
