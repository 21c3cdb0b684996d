defmodule Emily.Golden.Models do
  @moduledoc """
  Models as Axon and Bumblebee define them, small and with weights that are the same each time, for
  `Emily.Golden.Programs` to record.

  Neither library is needed to test Emily, so what is recorded of them stays as it is where they are not
  there.
  """

  import Emily.Golden.Values, only: [pattern: 2]

  alias Nx.Defn.{Composite, Evaluator}

  @compile {:no_warn_undefined,
            [
              Axon,
              Axon.Loop,
              Axon.Loop.State,
              Axon.ModelState,
              Bumblebee,
              Bumblebee.Audio.Whisper,
              Bumblebee.Text.Bert,
              Bumblebee.Text.Llama,
              Bumblebee.Text.Qwen3,
              Bumblebee.Vision.Vit,
              Polaris.Optimizers
            ]}

  @typedoc "A name, a function and its arguments: weights, or `{:input, container}`."
  @type program :: {String.t(), function(), [term()]}

  @doc "Finds the libraries' compiled modules in `folder`."
  @spec add(Path.t()) :: :ok
  def add(folder) do
    true = Code.prepend_path(folder)

    # Their structs are containers, which protocols that were consolidated without them do not know.
    Code.delete_path(Mix.Project.consolidation_path())

    for protocol <- [Nx.Container, Nx.LazyContainer] do
      :code.purge(protocol)
      :code.delete(protocol)
    end

    :ok
  end

  @doc "The programs that can be recorded here, and the names of the others."
  @spec programs() :: {[program()], [String.t()]}
  def programs do
    {found, missing} = Enum.split_with(models(), fn {_name, library, _} -> library?(library) end)

    {for({name, _library, program} <- found, do: program.(name)),
     for({name, _library, _program} <- missing, do: name)}
  end

  defp library?(library), do: Code.ensure_loaded?(library)

  defp models do
    [
      {"axon_mlp_training_step", Axon, &training_step(&1, mlp(), {4, 6})},
      {"axon_lenet_training_step", Axon, &training_step(&1, lenet(), {2, 10, 10, 1})},
      {"bumblebee_bert", Bumblebee, &bert/1},
      {"bumblebee_llama_step", Bumblebee, &decoder_step(&1, Bumblebee.Text.Llama, [])},
      {"bumblebee_qwen3_step", Bumblebee,
       &decoder_step(&1, Bumblebee.Text.Qwen3, attention_head_size: 4)},
      {"bumblebee_vit", Bumblebee, &vit/1},
      {"bumblebee_whisper", Bumblebee, &whisper/1}
    ]
  end

  ## Training

  defp mlp do
    Axon.input("x", shape: {nil, 6})
    |> Axon.dense(8, activation: :relu)
    |> Axon.dropout(rate: 0.5, seed: 5)
    |> Axon.dense(3, activation: :softmax)
  end

  defp lenet do
    Axon.input("x", shape: {nil, 10, 10, 1})
    |> Axon.conv(3, kernel_size: 3, activation: :tanh, padding: :same)
    |> Axon.avg_pool(kernel_size: 2, strides: 2)
    |> Axon.conv(4, kernel_size: 2, activation: :tanh)
    |> Axon.max_pool(kernel_size: 2)
    |> Axon.flatten()
    |> Axon.dense(6, activation: :tanh)
    |> Axon.dense(3, activation: :softmax)
  end

  # A step of Axon's own loop, with Adam.
  defp training_step(name, model, shape) do
    optimizer = Polaris.Optimizers.adam(learning_rate: 0.01)
    {init, step} = Axon.Loop.train_step(model, :categorical_cross_entropy, optimizer)
    x = pattern(shape, 30)
    y = Nx.equal(Nx.iota({elem(shape, 0), 1}), Nx.iota({1, 3}))
    state = evaluated(init, [{x, y}, Axon.ModelState.empty()])
    weights = weights(state.model_state)

    fun = fn weights, x, y ->
      state = %{state | model_state: %{state.model_state | data: weights}}
      state = step.({x, y}, state)
      %{loss: state.loss, weights: state.model_state.data}
    end

    {name, fun, [{:input, weights}, {:input, x}, {:input, y}]}
  end

  ## Transformers

  defp bert(name) do
    spec =
      Bumblebee.configure(Bumblebee.Text.Bert,
        vocab_size: 12,
        max_positions: 8,
        hidden_size: 16,
        num_blocks: 1,
        num_attention_heads: 2,
        intermediate_size: 24
      )

    inputs = %{
      "input_ids" => Nx.tensor([[3, 1, 7, 2, 9], [4, 11, 0, 0, 0]]),
      "attention_mask" => Nx.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    }

    forward(name, spec, inputs, & &1.hidden_state)
  end

  # The fourth token, after a cache was filled with three.
  defp decoder_step(name, module, options) do
    spec =
      module
      |> struct(architecture: :for_causal_language_modeling)
      |> Bumblebee.configure(
        [
          vocab_size: 12,
          max_positions: 8,
          hidden_size: 16,
          num_blocks: 2,
          num_attention_heads: 4,
          num_key_value_heads: 2,
          intermediate_size: 24
        ] ++ options
      )

    model = Bumblebee.build_model(spec)
    prompt = inputs([[3, 1, 7]], [[0, 1, 2]])
    cache = evaluated(&module.init_cache(spec, 1, 6, &1), [prompt])
    prompt = Map.put(prompt, "cache", cache)
    weights = weights(model, prompt)
    {_init, predict} = Axon.build(model)
    %{cache: cache} = evaluated(predict, [Axon.ModelState.new(weights), prompt])

    fun = fn weights, inputs ->
      inputs = Map.update!(inputs, "cache", &with_absent(&1, cache))
      %{logits: logits, cache: cache} = weights |> Axon.ModelState.new() |> predict.(inputs)
      %{logits: logits, cache: without_absent(cache)}
    end

    inputs = [[9]] |> inputs([[3]]) |> Map.put("cache", without_absent(cache))
    {name, fun, [weights, {:input, inputs}]}
  end

  # Caches say with a struct of Axon's that a part of them is not there, and files hold tensors alone.
  defp without_absent(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> Enum.map(&without_absent/1) |> List.to_tuple()

  defp without_absent(map) when is_non_struct_map(map) do
    for {key, value} <- map, not is_struct(value, Axon.None), into: %{} do
      {key, without_absent(value)}
    end
  end

  defp without_absent(tensor), do: tensor

  defp with_absent(tuple, like) when is_tuple(tuple) do
    pairs = Enum.zip(Tuple.to_list(tuple), Tuple.to_list(like))
    List.to_tuple(for {value, like} <- pairs, do: with_absent(value, like))
  end

  defp with_absent(map, like) when is_non_struct_map(map) do
    Map.new(like, fn {key, like} ->
      {key, if(is_map_key(map, key), do: with_absent(map[key], like), else: like)}
    end)
  end

  defp with_absent(tensor, _like), do: tensor

  defp inputs(ids, positions) do
    ids = Nx.tensor(ids)

    %{
      "input_ids" => ids,
      "attention_mask" => Nx.broadcast(1, ids),
      "position_ids" => Nx.tensor(positions)
    }
  end

  defp vit(name) do
    spec =
      Bumblebee.configure(Bumblebee.Vision.Vit,
        image_size: 8,
        patch_size: 4,
        hidden_size: 16,
        num_blocks: 1,
        num_attention_heads: 2,
        intermediate_size: 24
      )

    inputs = %{"pixel_values" => pattern({1, 8, 8, 3}, 31)}
    forward(name, spec, inputs, & &1.hidden_state)
  end

  defp whisper(name) do
    spec =
      Bumblebee.configure(Bumblebee.Audio.Whisper,
        vocab_size: 12,
        feature_size: 4,
        encoder_max_positions: 6,
        decoder_max_positions: 8,
        hidden_size: 16,
        encoder_num_blocks: 1,
        decoder_num_blocks: 1,
        encoder_num_attention_heads: 2,
        decoder_num_attention_heads: 2,
        encoder_intermediate_size: 24,
        decoder_intermediate_size: 24
      )

    inputs = %{
      "input_features" => pattern({1, 12, 4}, 32),
      "decoder_input_ids" => Nx.tensor([[3, 1, 7]])
    }

    forward(name, spec, inputs, &Map.take(&1, [:hidden_state, :encoder_hidden_state]))
  end

  defp forward(name, spec, inputs, outputs) do
    model = Bumblebee.build_model(spec)
    {_init, predict} = Axon.build(model)

    fun = fn weights, inputs ->
      weights |> Axon.ModelState.new() |> predict.(inputs) |> outputs.()
    end

    {name, fun, [weights(model, inputs), {:input, inputs}]}
  end

  ## Weights

  defp weights(model, inputs) do
    {init, _predict} = Axon.build(model)
    init |> evaluated([inputs, Axon.ModelState.empty()]) |> weights()
  end

  # A model's own shapes and names, with numbers that need no generator; keys of generators stay.
  defp weights(state) do
    {weights, _seed} =
      Composite.traverse(state.data, 40, fn tensor, seed ->
        {weight(tensor, seed), seed + 1}
      end)

    weights
  end

  defp weight(%{type: {:f, 32}} = tensor, seed) do
    numbers = tensor |> Nx.shape() |> pattern(seed) |> Nx.multiply(0.25)
    scale? = tensor |> Nx.equal(1) |> Nx.all() |> Nx.to_number() == 1
    if scale?, do: Nx.add(numbers, 1), else: numbers
  end

  defp weight(tensor, _seed), do: tensor

  defp evaluated(fun, arguments), do: Nx.Defn.jit_apply(fun, arguments, compiler: Evaluator)
end
