if Code.ensure_loaded?(Nx) do
  defmodule Emily.Quantization.BumblebeeTest do
    use ExUnit.Case, async: true

    alias Emily.{Generation, Quantization, QuantizedWeight}
    alias Emily.Test.SmallBumblebee
    alias Nx.Defn.Evaluator

    @moduletag :nx
    @moduletag :native
    # Axon logs the options that it passes on.
    @moduletag :capture_log

    @compile {:no_warn_undefined, [Axon, Axon.ModelState, Bumblebee]}

    if reason = SmallBumblebee.missing(), do: @moduletag(skip: reason)

    @emily [compiler: Emily.Compiler, native_fallback: :raise]
    @tokens [[3, 1, 7, 2, 9, 11, 30, 39]]

    setup do
      Nx.default_backend(Nx.BinaryBackend)
      :ok
    end

    defp model(module, architecture, options) do
      size = [hidden_size: 64, intermediate_size: 96, initializer_scale: 0.3]

      SmallBumblebee.model(
        Module.concat(Bumblebee.Text, module),
        architecture,
        8,
        size ++ options
      )
    end

    defp quantized(%{model: model, params: params} = info, opts) do
      {model, params} = Quantization.Axon.quantize(model, params, opts)
      %{info | model: model, params: params}
    end

    # Kernels as tensors again, in the shapes that they had.
    defp dequantized(%{params: params}, before) do
      update_in(params.data, fn data ->
        Map.new(data, fn
          {name, %{"kernel" => %QuantizedWeight{} = weight} = layer} ->
            kernel = Quantization.dequantize(weight)
            rows? = name =~ "embedding" or name == "language_modeling_head.output"
            kernel = if rows?, do: kernel, else: Nx.transpose(kernel)
            assert kernel.shape == before.params.data[name]["kernel"].shape
            {name, %{layer | "kernel" => kernel}}

          other ->
            other
        end)
      end)
    end

    defp logits(model, params, opts) do
      inputs = %{"input_ids" => Nx.tensor(@tokens)}
      Axon.predict(model, params, inputs, opts).logits |> Nx.backend_copy(Nx.BinaryBackend)
    end

    # The greatest difference, as a fraction of the greatest number.
    defp distance(a, b) do
      greatest = &(&1 |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number())
      greatest.(Nx.subtract(a, b)) / greatest.(b)
    end

    @models [
      {:Bert, :for_masked_language_modeling, []},
      {:Llama, :for_causal_language_modeling, [num_key_value_heads: 2]},
      {:Qwen3, :for_causal_language_modeling, [num_key_value_heads: 2, attention_head_size: 16]}
    ]

    for {name, architecture, options} <- @models do
      test "logits of a quantized #{name} are those of its dequantized form" do
        info = model(unquote(name), unquote(architecture), unquote(options))
        original = logits(info.model, info.params, @emily)
        there = %{info | params: Nx.backend_copy(info.params, Emily.Backend)}

        [{eight, _packed}, {four, packed}] =
          for bits <- [8, 4] do
            packed = quantized(there, bits: bits, group_size: 32)
            expected = logits(info.model, dequantized(packed, info), @emily)
            # As far as sums of f32 in another order are apart after two blocks.
            assert distance(logits(packed.model, packed.params, @emily), expected) < 1.0e-5
            {expected, packed}
          end

        # All matrices are packed, the head is one of them.
        names = for {name, %{"kernel" => kernel}} <- packed.params.data, packed?(kernel), do: name
        assert names == for({name, %{"kernel" => _kernel}} <- info.params.data, do: name)
        assert "language_modeling_head.output" in names

        here = Nx.backend_copy(packed.params, Nx.BinaryBackend)
        assert distance(logits(packed.model, here, compiler: Evaluator), four) < 1.0e-5

        assert distance(eight, original) < 0.05
        assert distance(eight, original) < distance(four, original)
      end
    end

    defp packed?(kernel), do: is_struct(kernel, QuantizedWeight)

    test "a quantized model continues prompts, with its cache as without" do
      {name, architecture, options} = Enum.at(@models, 1)
      info = name |> model(architecture, options) |> quantized(bits: 4, group_size: 32)
      Nx.default_backend(Emily.Backend)
      info = %{info | params: Nx.backend_copy(info.params, Emily.Backend)}
      prompt = Enum.take(hd(@tokens), 3)

      expected =
        Enum.reduce(1..8, prompt, fn _, tokens ->
          inputs = %{"input_ids" => Nx.tensor([tokens ++ List.duplicate(0, 11 - length(tokens))])}
          logits = Axon.predict(info.model, info.params, inputs, @emily).logits
          tokens ++ [logits[[0, length(tokens) - 1]] |> Nx.argmax() |> Nx.to_number()]
        end)

      generation = Generation.Bumblebee.new(info, capacity: 16)
      assert prompt ++ Generation.generate(generation, prompt, max_tokens: 8).tokens == expected
    end
  end
end
