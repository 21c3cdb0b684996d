if Code.ensure_loaded?(Axon) do
  defmodule Emily.Quantization.AxonTest do
    use ExUnit.Case, async: true

    alias Emily.{Quantization, QuantizedWeight}
    alias Nx.Defn.Evaluator

    @moduletag :nx
    @moduletag :native
    # Axon logs the options that it passes on.
    @moduletag :capture_log

    @emily [compiler: Emily.Compiler, native_fallback: :raise]
    @schemes [
      [bits: 4, group_size: 32],
      [bits: 8],
      [mode: :mxfp4],
      [mode: :mxfp8],
      [mode: :nvfp4]
    ]

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    # Words to scores, with and without biases and names, a residual and a layer that is used twice.
    defp model do
      x = Axon.input("words", shape: {nil, 5}) |> Axon.embedding(40, 64)
      wide = x |> Axon.dense(192, activation: :gelu) |> Axon.dropout(rate: 0.5)
      narrow = Axon.dense(wide, 64, use_bias: false, name: "narrow")

      Axon.add(x, narrow)
      |> Axon.layer_norm()
      |> Axon.dense(48, bias_initializer: :normal)
      |> Axon.dense(10, name: "head")
    end

    defp words, do: Nx.tensor([[1, 2, 3, 4, 39], [7, 0, 7, 11, 20]])

    defp initialized(model, seed \\ 3) do
      {init, _predict} = Axon.build(model, compiler: Evaluator, seed: seed)
      init.(Nx.template({1, 5}, :s64), Axon.ModelState.empty())
    end

    defp predict(model, state, opts \\ @emily),
      do: Axon.predict(model, state, words(), opts) |> Nx.backend_copy(Nx.BinaryBackend)

    # The same model's kernels as tensors again, as Axon has them.
    defp dequantized(state) do
      update_in(state.data, fn data ->
        Map.new(data, fn
          {name, %{"kernel" => %QuantizedWeight{} = weight} = layer} ->
            kernel = Quantization.dequantize(weight)
            kernel = if name =~ "embedding", do: kernel, else: Nx.transpose(kernel)
            {name, %{layer | "kernel" => kernel}}

          other ->
            other
        end)
      end)
    end

    # The greatest difference, as a fraction of the greatest number.
    defp distance(a, b) do
      greatest = &(&1 |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number())
      greatest.(Nx.subtract(a, b)) / greatest.(b)
    end

    defp quantized_names(state) do
      for {name, %{"kernel" => %QuantizedWeight{}}} <- state.data, do: name
    end

    test "computes what the dequantized model does, on Emily and elsewhere" do
      model = model()
      state = initialized(model)

      for opts <- @schemes do
        {quantized, packed} = Quantization.Axon.quantize(model, state, opts)

        # 48 features are no multiple of 32, but of 16.
        assert quantized_names(packed) ==
                 ["dense_0", "dense_2", "embedding_0"] ++
                   if(opts[:mode] == :nvfp4, do: ["head"], else: []) ++ ["narrow"]

        expected = predict(model, dequantized(packed), compiler: Evaluator)
        # As far as sums of f32 in another order are apart.
        assert distance(predict(quantized, packed), expected) < 2.0e-6
        assert distance(predict(quantized, packed, compiler: Evaluator), expected) < 1.0e-6
        assert distance(expected, predict(model, state)) > 1.0e-3
      end
    end

    test "the more bits, the nearer to what it was" do
      model = model()
      state = initialized(model)
      expected = predict(model, state)

      distances =
        for bits <- [2, 4, 8] do
          {quantized, packed} =
            Quantization.Axon.quantize(model, state, bits: bits, group_size: 32)

          distance(predict(quantized, packed), expected)
        end

      assert distances == Enum.sort(distances, :desc)
      assert List.last(distances) < 0.02
    end

    test "kernels take the memory of their bits, and all else stays" do
      model = model()
      state = initialized(model)
      {quantized, packed} = Quantization.Axon.quantize(model, state, bits: 4, only: ["dense_0"])
      assert inspect(Quantization.Axon.quantize(model, state)) =~ "#Axon.ModelState<"

      assert %{"kernel" => %QuantizedWeight{} = weight, "bias" => bias} = packed.data["dense_0"]
      assert QuantizedWeight.shape(weight) == {192, 64}
      assert bias == state.data["dense_0"]["bias"]
      assert Map.delete(packed.data, "dense_0") == Map.delete(state.data, "dense_0")
      assert packed.frozen_parameters == %{"dense_0" => ["kernel"]}

      bytes = for tensor <- QuantizedWeight.parts(weight), do: Nx.byte_size(tensor)
      # Half a byte each, and two floats for each 64.
      assert Enum.sum(bytes) == 192 * 64 * 4 / 8 + 2 * 192 * 4

      assert Axon.properties(quantized) == Axon.properties(model)
      {_init, predict} = Axon.build(quantized)
      text = Emily.Compiler.explain(predict, [packed, words()], passes: :none)
      count = &length(Regex.scan(&1, text))
      # The text has the program twice, before the passes and after them.
      assert {count.(~r/= quantized_matmul /), count.(~r/= dot /)} == {2, 6}
      # It takes kernels as they were, too.
      assert distance(predict(quantized, state), predict(model, state)) < 1.0e-6
      assert Map.keys(initialized(quantized).data) == Map.keys(state.data)
    end

    test "layers are chosen by name or by what they are" do
      model = model()
      state = initialized(model)

      names = fn opts ->
        {_model, state} = Quantization.Axon.quantize(model, state, [group_size: 32] ++ opts)
        quantized_names(state)
      end

      all = ["dense_0", "dense_2", "embedding_0", "narrow"]
      assert names.([]) == all
      assert names.(only: ["narrow", "dense_0"]) == ["dense_0", "narrow"]
      assert names.(except: ["narrow", "head"]) == all -- ["narrow"]
      assert names.(only: &(&1.op == :embedding)) == ["embedding_0"]
      assert names.(only: &match?({64, _units}, &1.shape)) == ["dense_0", "dense_2"]
      assert names.(only: all, except: &(&1.name =~ "dense")) == ["embedding_0", "narrow"]
      assert names.(only: []) == []

      # Each with settings of its own, one after another.
      {mixed, state} = Quantization.Axon.quantize(model, state, bits: 8, only: ["narrow"])
      {mixed, state} = Quantization.Axon.quantize(mixed, state, bits: 4)
      assert {state.data["narrow"]["kernel"].bits, state.data["dense_0"]["kernel"].bits} == {8, 4}
      assert state.frozen_parameters |> Map.keys() |> Enum.sort() == all
      expected = predict(model, dequantized(state))
      assert distance(predict(mixed, state), expected) < 2.0e-6
    end

    test "layers that share a kernel read it alike, or keep it" do
      x = Axon.input("x", shape: {nil, 64})

      shared =
        Axon.add(Axon.dense(x, 64, name: "a"), Axon.dense(Axon.tanh(x), 64, name: "a"))
        |> Axon.dense(64, name: "b")

      input = Nx.iota({2, 64}, type: :f32) |> Nx.sin()
      {init, _predict} = Axon.build(shared, compiler: Evaluator, seed: 1)
      state = init.(Nx.template({1, 64}, :f32), Axon.ModelState.empty())
      {model, packed} = Quantization.Axon.quantize(shared, state)
      assert quantized_names(packed) == ["a", "b"]
      expected = Axon.predict(shared, dequantized(packed), input, compiler: Evaluator)
      found = Axon.predict(model, packed, input, @emily) |> Nx.backend_copy(Nx.BinaryBackend)
      assert distance(found, expected) < 2.0e-6

      other = Axon.nx(x, &Nx.as_type(&1, :s64)) |> Axon.embedding(64, 64, name: "a")
      both = Axon.container({shared, other})
      {_model, packed} = Quantization.Axon.quantize(both, state)
      assert quantized_names(packed) == ["b"]
    end

    test "policies cast scales, and results have their types" do
      policy = Axon.MixedPrecision.create_policy(compute: {:bf, 16}, output: {:bf, 16})
      model = Axon.MixedPrecision.apply_policy(model(), policy)
      state = initialized(model)

      for opts <- [[bits: 4, group_size: 32], [mode: :mxfp8]] do
        {quantized, packed} = Quantization.Axon.quantize(model, state, opts)
        found = predict(quantized, packed)
        assert Nx.type(found) == {:bf, 16}
        expected = predict(model, dequantized(packed))
        # MLX's sums of products are in bf16 on a CPU, half of a 128th at each step.
        assert distance(Nx.as_type(found, :f32), Nx.as_type(expected, :f32)) < 0.05
      end
    end

    test "a model that was frozen is quantized as another one" do
      # As Axon marks what it freezes in a model.
      model =
        Axon.map_nodes(model(), fn node ->
          %{node | parameters: Enum.map(node.parameters, &%{&1 | frozen: true})}
        end)

      {quantized, packed} = Quantization.Axon.quantize(model, initialized(model))
      expected = predict(model, dequantized(packed))
      assert distance(predict(quantized, packed), expected) < 2.0e-6
      names = fn state -> Map.keys(state.frozen_parameters) end
      assert names.(packed) == names.(initialized(model))
      assert Axon.ModelState.trainable_parameters(packed) == %{}
    end

    test "gradients flow through to what came before" do
      model = model()
      {quantized, packed} = Quantization.Axon.quantize(model, initialized(model))
      {_init, predict} = Axon.build(quantized, compiler: Evaluator)
      {_init, plain} = Axon.build(model, compiler: Evaluator)
      bias = packed.data["dense_0"]["bias"]

      gradient = fn predict, state ->
        loss = fn bias, state, words ->
          predict.(put_in(state.data["dense_0"]["bias"], bias), words) |> Nx.sum()
        end

        Nx.Defn.jit(
          fn bias, state, words -> Nx.Defn.grad(bias, &loss.(&1, state, words)) end,
          @emily
        ).(bias, state, words())
        |> Nx.backend_copy(Nx.BinaryBackend)
      end

      expected = gradient.(plain, dequantized(packed))
      assert distance(gradient.(predict, packed), expected) < 2.0e-6
      refute Map.has_key?(Axon.ModelState.trainable_parameters(packed)["dense_0"], "kernel")
    end

    test "what cannot be quantized is named" do
      model = model()
      state = initialized(model)

      refused = fn opts ->
        assert_raise(ArgumentError, fn -> Quantization.Axon.quantize(model, state, opts) end).message
      end

      assert refused.(only: ["head"]) ==
               "expected dense \"head\" to have a kernel of :f32, :f16 or :bf16 with a multiple of 64 inputs, " <>
                 "got: f32[48][10]"

      assert refused.(except: ["layer_norm_0"]) ==
               "expected :except to name dense layers and embeddings whose kernels are tensors, got: \"layer_norm_0\""

      assert refused.(only: :dense) ==
               "expected :only to be a list of names, or a function of a layer, got: :dense"

      assert refused.(bits: 7) =~ "expected :bits of :affine"
      assert refused.(layers: []) =~ "unknown keys [:layers]"

      double = put_in(state.data["narrow"]["kernel"], Nx.broadcast(Nx.f64(1), {192, 64}))

      assert_raise ArgumentError,
                   ~r/"narrow" to have a kernel of :f32.*got: f64\[192\]\[64\]/,
                   fn ->
                     Quantization.Axon.quantize(model, double, only: ["narrow"])
                   end

      {_model, packed} = Quantization.Axon.quantize(model, double)
      refute "narrow" in quantized_names(packed)

      assert_raise ArgumentError,
                   ~r/expected an Axon and an Axon.ModelState, got: .* and %{}/s,
                   fn ->
                     Quantization.Axon.quantize(model, %{})
                   end
    end
  end
end
