defmodule Emily.Generation.Bumblebee do
  @moduledoc """
  Bumblebee's language models for `Emily.Generation`.

      {:ok, model} = Bumblebee.load_model({:hf, "HuggingFaceTB/SmolLM2-135M-Instruct"})
      {:ok, tokenizer} = Bumblebee.load_tokenizer({:hf, "HuggingFaceTB/SmolLM2-135M-Instruct"})

      generation = Emily.Generation.Bumblebee.new(model, capacity: 1024)
      %{"input_ids" => prompt} = Bumblebee.apply_tokenizer(tokenizer, "What is the meaning of life?")

      generation
      |> Emily.Generation.stream(prompt[0], end_tokens: 2, temperature: 0.7)
      |> Stream.map(&Bumblebee.Tokenizer.decode(tokenizer, [&1]))
      |> Enum.each(&IO.write/1)

  The models keep their own cache, which has room for as many positions as it is made with, and computes with all of them
  from the beginning. Batches, sessions and drafts work as they do with `Emily.Generation.Cache`. Emily depends neither on
  Bumblebee nor on Axon; a project that has both can call this.

  It is also how to say a model of another library: a function of parameters, tokens and the cache, and what there
  is to know of the cache.

      forward = fn params, tokens, %{starts: starts, held: held} ->
        {rows, length} = Nx.shape(tokens)
        place = Nx.add(held.offset, Nx.iota({rows, length}, axis: 1, type: :s32))

        inputs = %{
          "input_ids" => tokens,
          "attention_mask" => Nx.greater_equal(place, Nx.new_axis(starts, 1)),
          "position_ids" => place |> Nx.subtract(Nx.new_axis(starts, 1)) |> Nx.max(0),
          "cache" => held
        }

        outputs = predict.(params, inputs)
        {outputs.logits, %{starts: starts, held: outputs.cache}}
      end
  """

  alias Emily.Generation
  alias Emily.Generation.Request
  alias Nx.Defn.Composite

  # A project may have them.
  @compile {:no_warn_undefined, [Axon, Axon.MixedPrecision, Bumblebee.Text.Generation]}

  @doc """
  A generation of what `Bumblebee.load_model/2` returns for a causal language model.

  ## Options

    * `:capacity` - how many positions a text may have, its prompt included; required

  And `:prefill_chunk` and `:defn_options` of `Emily.Generation.new/3`.

  Raises `ArgumentError` if that is no language model with a decoder alone, or if an option does not fit.
  """
  @spec new(%{model: struct(), params: struct(), spec: struct()}, keyword()) :: Generation.t()
  def new(%{model: model, params: params, spec: spec}, options) do
    {capacity, options} = Keyword.pop(options, :capacity)

    if not (is_integer(capacity) and capacity > 0),
      do: Request.refuse(":capacity to be a positive integer", capacity)

    if Map.get(spec, :architecture) != :for_causal_language_modeling,
      do: Request.refuse("a model :for_causal_language_modeling", Map.get(spec, :architecture))

    {_init, predict} = Axon.build(model)

    Generation.new(
      forward(predict),
      params,
      [cache: &cache(model, spec, &1, capacity), capacity: capacity, trim: &trim/2, pad: &pad/2] ++
        options
    )
  end

  def new(other, _options),
    do: Request.refuse("a model as Bumblebee.load_model/2 returns it", other)

  defp forward(predict) do
    fn params, tokens, %{starts: starts, held: held} ->
      starts = Nx.new_axis(starts, 1)
      place = Nx.add(held.offset, Nx.iota(Nx.shape(tokens), axis: 1, type: :s32))

      inputs = %{
        "input_ids" => tokens,
        "attention_mask" =>
          place |> Nx.greater_equal(starts) |> Nx.as_type(held.attention_mask.type),
        "position_ids" => place |> Nx.subtract(starts) |> Nx.max(0),
        "cache" => held
      }

      outputs = predict.(params, inputs)
      {outputs.logits, %{starts: Nx.squeeze(starts, axes: [1]), held: outputs.cache}}
    end
  end

  # The model returns its cache in the type of its results.
  defp cache(model, spec, rows, capacity) do
    {%{policy: policy}, _nodes} = Axon.pop_node(model)
    held = Bumblebee.Text.Generation.init_cache(spec, rows, capacity, %{})

    %{
      starts: Nx.broadcast(Nx.tensor(0, type: :s32), {rows}),
      held: Composite.traverse(held, &Axon.MixedPrecision.cast(policy, &1, :output))
    }
  end

  # What lies behind the offset is later than any query, and written anew before it is not.
  defp trim(%{held: held} = cache, count),
    do: %{cache | held: %{held | offset: Nx.as_type(Nx.subtract(held.offset, count), :s32)}}

  defp pad(cache, starts), do: %{cache | starts: starts}
end
