if Code.ensure_loaded?(Nx) do
  defmodule Emily.Generation.BumblebeeTest do
    use ExUnit.Case, async: true

    alias Emily.Generation
    alias Emily.Test.SmallBumblebee

    @moduletag :nx
    @moduletag :native
    # Axon logs the options that it passes on.
    @moduletag :capture_log

    @compile {:no_warn_undefined, [Axon, Axon.ModelState, Bumblebee, Bumblebee.Text.Generation]}

    if reason = SmallBumblebee.missing(), do: @moduletag(skip: reason)

    setup do
      Nx.default_backend(Emily.Backend)
      :ok
    end

    defp model(module, options \\ []) do
      size = [
        hidden_size: 16,
        num_key_value_heads: 2,
        intermediate_size: 24,
        initializer_scale: 0.6
      ]

      SmallBumblebee.model(module, :for_causal_language_modeling, 1, size ++ options)
    end

    # The likeliest tokens, with all computed anew for each and no cache.
    defp continued(%{model: model, params: params}, prompt, count) do
      {_init, predict} = Axon.build(model, compiler: Emily.Compiler)

      Enum.reduce(1..count, prompt, fn _, tokens ->
        padded = tokens ++ List.duplicate(0, length(prompt) + count - length(tokens))
        logits = predict.(params, %{"input_ids" => Nx.tensor([padded])}).logits
        tokens ++ [logits[[0, length(tokens) - 1]] |> Nx.argmax() |> Nx.to_number()]
      end)
      |> Enum.drop(length(prompt))
    end

    @rows [[3, 1, 7, 2, 9, 11, 30], [5], [8, 8, 20]]

    for {name, options} <- [{:Llama, []}, {:Qwen3, [attention_head_size: 4]}] do
      test "#{name} continues prompts as without a cache, alone and in a batch" do
        model = model(Module.concat(Bumblebee.Text, unquote(name)), unquote(options))
        generation = Generation.Bumblebee.new(model, capacity: 32, prefill_chunk: 4)
        expected = Enum.map(@rows, &continued(model, &1, 12))
        assert expected |> List.flatten() |> Enum.uniq() |> length() > 8

        assert expected ==
                 Enum.map(@rows, &Generation.generate(generation, &1, max_tokens: 12).tokens)

        assert Generation.generate(generation, @rows, max_tokens: 12).tokens == expected
      end
    end

    test "sessions and drafts go with its cache, too" do
      model = model(Bumblebee.Text.Llama)
      generation = Generation.Bumblebee.new(model, capacity: 40)
      prompt = hd(@rows)
      session = Generation.prefill(generation, prompt)

      for prompt <- [prompt, [3, 1, 7, 30, 30]], draft <- [[], [draft: generation]] do
        result =
          Generation.generate(generation, prompt, [session: session, max_tokens: 12] ++ draft)

        assert result.tokens == continued(model, prompt, 12)
        assert result.reused_tokens >= 3
      end
    end

    test "what is no language model of Bumblebee's is refused" do
      model = model(Bumblebee.Text.Llama)

      assert_raise ArgumentError, "expected :capacity to be a positive integer, got: nil", fn ->
        Generation.Bumblebee.new(model, [])
      end

      assert_raise ArgumentError, ~r/a model :for_causal_language_modeling, got: :base/, fn ->
        Generation.Bumblebee.new(put_in(model.spec.architecture, :base), capacity: 8)
      end

      assert_raise ArgumentError, ~r/a model as Bumblebee.load_model\/2 returns it, got: 1/, fn ->
        Generation.Bumblebee.new(1, capacity: 8)
      end
    end
  end
end
