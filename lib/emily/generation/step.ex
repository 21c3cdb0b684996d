defmodule Emily.Generation.Step do
  @moduledoc false
  # The compiled functions: one token for each row, and a piece of a prompt.
  #
  # The compiler finds them again by the model's function and the shapes, so that a step is compiled once for each size of
  # the cache, whoever generates.

  alias Emily.Generation.{Compiled, Sampler}
  alias Nx.Defn.Composite

  @doc """
  A step, compiled: `{token, scores, cache, state}` from the parameters, the tokens before, the cache and the sampler's state.

  Tokens are `{batch}`, and so are their log-probabilities as scores, if `scored?`; else these are `{}`.
  """
  @spec decode(Emily.Generation.t(), Sampler.t(), boolean()) :: Compiled.t()
  def decode(generation, sampler, scored?) do
    forward = generation.forward

    Compiled.new(
      fn params, token, cache, state ->
        {logits, cache} = call(forward, params, Nx.new_axis(token, 1), cache)
        logits = Nx.squeeze(logits, axes: [1])
        {token, state} = Sampler.sample(sampler, logits, state)
        scores = if scored?, do: Sampler.log_probability(logits, token), else: {}
        {token, scores, cache, state}
      end,
      generation.defn_options
    )
  end

  @doc """
  A piece of a prompt: the cache after tokens `{batch, length}`, and a scalar that is there when all of the cache is.
  Nobody needs the logits.
  """
  @spec prefill(Emily.Generation.t()) :: Compiled.t()
  def prefill(generation) do
    forward = generation.forward

    Compiled.new(
      fn params, tokens, cache ->
        {_logits, cache} = call(forward, params, tokens, cache)
        {cache, mark(cache)}
      end,
      generation.defn_options
    )
  end

  # An element of each tensor; who computes these computes the tensors.
  defp mark(cache) do
    for tensor <- Composite.flatten_list([cache]), reduce: Nx.tensor(0, type: :u8) do
      mark ->
        first = tensor |> Nx.slice(zeros(tensor), ones(tensor)) |> Nx.squeeze()
        Nx.add(mark, Nx.equal(first, 0))
    end
  end

  defp zeros(tensor), do: List.duplicate(0, Nx.rank(tensor))
  defp ones(tensor), do: List.duplicate(1, Nx.rank(tensor))

  @doc "What the model's function gives, if that is what the driver can work with."
  @spec call(function(), term(), Nx.Tensor.t(), term()) :: {Nx.Tensor.t(), term()}
  def call(forward, params, tokens, cache) do
    {batch, length} = Nx.shape(tokens)

    case forward.(params, tokens, cache) do
      {%Nx.Tensor{shape: {^batch, ^length, _vocabulary}} = logits, after_it} ->
        check_type!(logits)
        check_cache!(cache, after_it)
        {logits, after_it}

      {%Nx.Tensor{} = logits, _cache} ->
        refuse(
          "logits of shape {#{batch}, #{length}, vocabulary} for tokens {#{batch}, #{length}}",
          shown(logits)
        )

      other ->
        refuse("{logits, cache}", shown(other))
    end
  end

  defp check_type!(logits) do
    if not Nx.Type.float?(logits.type), do: refuse("logits of a floating type", shown(logits))
  end

  # Otherwise each step would be another one to compile, and none could compute in the memory of the one before.
  defp check_cache!(before, later) do
    {before, later} = {types(before), types(later)}

    if length(before) != length(later) do
      refuse("a cache of #{length(before)} tensors, as it was given", "#{length(later)} tensors")
    end

    for {one, other} <- Enum.zip(before, later), one != other do
      refuse("a cache of the types and shapes that it was given, such as #{one}", other)
    end
  end

  defp types(container), do: Enum.map(Composite.flatten_list([container]), &shown/1)

  defp shown(%Nx.Tensor{type: type, shape: shape}) do
    for size <- Tuple.to_list(shape), into: Nx.Type.to_string(type), do: "[#{size}]"
  end

  defp shown(other), do: inspect(other)

  defp refuse(expected, got) do
    raise ArgumentError, "expected the model's function to return #{expected}, got: #{got}"
  end
end
