if Code.ensure_loaded?(Axon) do
  defmodule Emily.MixedPrecision.AxonTest do
    @moduledoc "Axon's own loop, with Emily's loss scale and optimizer."

    use ExUnit.Case, async: true

    alias Emily.MixedPrecision

    @moduletag :nx
    @moduletag :native

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp model do
      Axon.input("x", shape: {nil, 1})
      |> Axon.dense(24, activation: :tanh)
      |> Axon.dense(1)
    end

    defp narrow(model) do
      policy =
        Axon.MixedPrecision.create_policy(params: {:f, 32}, compute: {:bf, 16}, output: {:f, 32})

      Axon.MixedPrecision.apply_policy(model, policy)
    end

    defp batches do
      for at <- 1..150 do
        {x, _key} = Nx.Random.uniform(Nx.Random.key(at), -2.0, 2.0, shape: {64, 1})
        {x, Nx.sin(x)}
      end
    end

    # The loss after each step, and the state after the last.
    defp train(model, batches, optimizer, opts) do
      {init, step} =
        Axon.Loop.train_step(model, :mean_squared_error, optimizer, [seed: 3] ++ opts)

      jit = &Nx.Defn.jit(&1, compiler: Emily.Compiler)
      state = jit.(init).(hd(batches), Axon.ModelState.empty())
      step = jit.(step)

      Enum.map_reduce(batches, state, fn {x, y} = batch, state ->
        state = step.(batch, state)
        loss = state.y_pred |> Nx.subtract(y) |> Nx.pow(2) |> Nx.mean() |> Nx.to_number()
        {if(Nx.to_number(Nx.any(Nx.is_nan(x))) == 1, do: :bad, else: loss), state}
      end)
    end

    defp optimizer, do: Polaris.Optimizers.adam(learning_rate: 0.01)

    test "follows training in f32, and leaves a batch out that overflows" do
      {expected, _state} = train(model(), batches(), optimizer(), [])
      bad = {Nx.broadcast(Nx.Constants.nan(), {64, 1}), Nx.broadcast(0.0, {64, 1})}
      batches = List.insert_at(batches(), 40, bad)
      careful = MixedPrecision.optimizer(optimizer())
      opts = [loss_scale: MixedPrecision.loss_scale(initial: 4096)]
      {losses, state} = train(narrow(model()), batches, careful, opts)

      assert Enum.at(losses, 40) == :bad
      assert Nx.to_number(state.loss_scale_state.scale) == 2048.0
      assert List.last(expected) < hd(expected) / 10

      for {loss, there} <- Enum.zip(List.delete_at(losses, 40), expected) do
        assert abs(loss - there) <= 0.03 * hd(expected), inspect({loss, there})
      end
    end
  end
end
