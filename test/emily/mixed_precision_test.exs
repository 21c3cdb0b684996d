if Code.ensure_loaded?(Nx) do
  defmodule Emily.MixedPrecisionTest do
    use ExUnit.Case, async: true

    alias Emily.MixedPrecision

    @moduletag :nx
    @moduletag :native

    doctest MixedPrecision

    @compiler [compiler: Emily.Compiler, native_fallback: :raise]

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    # Points on a wave, which a small network learns.
    defp wave(at) do
      key = Nx.Random.key(at)
      {x, _key} = Nx.Random.uniform(key, -2.0, 2.0, shape: {64, 1})
      {x, Nx.sin(x)}
    end

    defp network do
      key = Nx.Random.key(7)
      {first, key} = Nx.Random.normal(key, 0.0, 1.0, shape: {1, 32})
      {second, _key} = Nx.Random.normal(key, 0.0, 0.2, shape: {32, 1})
      %{"first" => first, "bias" => Nx.broadcast(0.0, {32}), "second" => second}
    end

    defp loss(params, x, y) do
      hidden = x |> Nx.dot(params["first"]) |> Nx.add(params["bias"]) |> Nx.tanh()
      error = hidden |> Nx.dot(params["second"]) |> MixedPrecision.cast(:f32) |> Nx.subtract(y)
      Nx.mean(Nx.multiply(error, error))
    end

    # Momentum, as Polaris has it.
    defp momentum do
      {
        fn params -> Map.new(params, fn {name, x} -> {name, Nx.multiply(x, 0.0)} end) end,
        fn gradients, state, _params ->
          state =
            Map.merge(state, gradients, fn _name, old, x -> Nx.add(Nx.multiply(old, 0.9), x) end)

          {Map.new(state, fn {name, x} -> {name, Nx.multiply(x, -0.02)} end), state}
        end
      }
    end

    # One step: parameters, the optimizer's state and the scale's.
    defp step(type) do
      {_init, update} = MixedPrecision.optimizer(momentum())

      Nx.Defn.jit(
        fn {params, state, scale}, x, y ->
          narrow = fn params -> loss(params, MixedPrecision.cast(x, type), y) end

          {loss, gradients, scale} =
            MixedPrecision.value_and_grad(params, scale, narrow, type: type)

          {updates, state} = update.(gradients, state, params)
          {loss, {Map.merge(params, updates, fn _name, x, by -> Nx.add(x, by) end), state, scale}}
        end,
        @compiler
      )
    end

    defp start(scale) do
      {init, _update} = MixedPrecision.optimizer(momentum())
      {network(), init.(network()), scale}
    end

    defp train(type, steps, scale) do
      step = step(type)

      Enum.map_reduce(1..steps, start(scale), fn at, state ->
        {x, y} = wave(at)
        {loss, state} = step.(state, x, y)
        {Nx.to_number(loss), state}
      end)
    end

    test "training in narrow types follows training in f32, and keeps parameters in f32" do
      {expected, _state} = train(:f32, 120, MixedPrecision.scale())
      assert List.last(expected) < hd(expected) / 5

      for type <- [:bf16, :f16] do
        {losses, {params, _state, _scale}} = train(type, 120, MixedPrecision.scale())
        assert Enum.all?(Map.values(params), &(Nx.type(&1) == {:f, 32}))

        # Of the first loss: what rounding to eight digits adds.
        for {loss, there} <- Enum.zip(losses, expected) do
          assert abs(loss - there) <= 0.02 * hd(expected), inspect({type, loss, there})
        end
      end
    end

    test "a step that overflows is left out, and training goes on" do
      step = step(:f16)
      scale = MixedPrecision.scale(initial: 1024, period: 3)
      {x, y} = wave(1)
      {_loss, before} = step.(start(scale), x, y)

      for bad <- [:infinity, :nan, 1.0e5] do
        {_loss, {params, state, scale}} = step.(before, Nx.broadcast(bad, {64, 1}), y)
        {same_params, same_state, was} = before
        assert equal?(params, same_params)
        assert equal?(state, same_state)
        assert Nx.to_number(scale.scale) == Nx.to_number(was.scale) / 2
        assert Nx.to_number(scale.good) == 0
        {loss, {after_it, _state, scale}} = step.({params, state, scale}, x, y)
        assert is_float(Nx.to_number(loss))
        refute equal?(after_it, params)
        assert Nx.to_number(scale.good) == 1
      end
    end

    defp equal?(left, right) do
      Enum.all?(left, fn {name, x} ->
        Nx.to_number(Nx.all(Nx.equal(x, right[name]))) == 1
      end)
    end

    test "gradients too small for the type survive by the scale" do
      factor = Nx.tensor([1.0e-4], type: :f16)

      tiny = fn x ->
        x |> Nx.multiply(factor) |> MixedPrecision.cast(:f32) |> Nx.multiply(1.0e-5) |> Nx.sum()
      end

      gradient = fn scale ->
        scale = MixedPrecision.scale(initial: scale)

        {_loss, x, _scale} =
          MixedPrecision.value_and_grad(Nx.tensor(0.5), scale, tiny, type: :f16)

        Nx.to_number(x)
      end

      assert gradient.(1) == 0.0
      assert_in_delta gradient.(2 ** 20), 1.0e-9, 1.0e-11
    end

    test "the backward pass is in the narrow type as well" do
      products = fn params, x, y ->
        narrow = fn params -> loss(params, MixedPrecision.cast(x, :bf16), y) end
        MixedPrecision.value_and_grad(params, MixedPrecision.scale(), narrow)
      end

      {x, y} = wave(1)
      text = Emily.Compiler.explain(products, [network(), x, y], passes: :none)
      products = for line <- String.split(text, "\n"), line =~ "= dot ", do: line
      assert length(products) >= 4
      assert Enum.all?(products, &(&1 =~ "bf16")), text
    end

    test "the scale grows after its period, and stays within what f32 holds and its least" do
      scale = MixedPrecision.scale(initial: 4, period: 2, factor: 3)

      scales =
        Enum.scan(1..4, scale, fn _at, scale -> MixedPrecision.next(scale, Nx.tensor(1)) end)

      assert Enum.map(scales, &Nx.to_number(&1.scale)) == [4.0, 12.0, 12.0, 36.0]

      large = MixedPrecision.scale(initial: 3.0e38, period: 1)
      assert Nx.equal(MixedPrecision.next(large, 1).scale, large.scale) == Nx.tensor(1, type: :u8)

      small = MixedPrecision.scale(initial: 3, least: 2)

      assert small
             |> MixedPrecision.next(0)
             |> MixedPrecision.next(0)
             |> Map.fetch!(:scale)
             |> Nx.to_number() == 2.0
    end

    test "what a transform makes the loss of comes back with its gradients" do
      both = fn x -> {Nx.multiply(x, x), Nx.add(x, 1)} end
      scale = MixedPrecision.scale()

      assert {{square, more}, gradient, _scale} =
               MixedPrecision.value_and_grad(Nx.tensor(2.0), scale, both, transform: &elem(&1, 0))

      assert {square, more} == {Nx.tensor(4.0, type: :bf16), Nx.tensor(3.0, type: :bf16)}
      assert gradient == Nx.tensor(4.0)
    end

    test "bad options and optimizers are named" do
      bad = [
        {[initial: 0], "expected :initial to be a positive number, got: 0"},
        {[factor: 1], "expected :factor to be a number greater than 1, got: 1"},
        {[least: -1], "expected :least to be a positive number, got: -1"},
        {[period: 1.5], "expected :period to be a positive integer, got: 1.5"}
      ]

      for {opts, text} <- bad do
        assert_raise ArgumentError, text, fn -> MixedPrecision.scale(opts) end
        assert_raise ArgumentError, text, fn -> MixedPrecision.loss_scale(opts) end
      end

      assert_raise ArgumentError, "expected a floating type, got: {:s, 8}", fn ->
        MixedPrecision.cast(Nx.tensor(1.0), :s8)
      end

      assert_raise ArgumentError, ~r/expected an optimizer as Polaris has them.*got: :adam/, fn ->
        MixedPrecision.optimizer(:adam)
      end
    end
  end
end
