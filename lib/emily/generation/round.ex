defmodule Emily.Generation.Round do
  @moduledoc false
  # The compiled function of speculative decoding: a draft model proposes tokens, and the model says of all of them
  # at once which it accepts, and what follows.
  #
  # All of that is one function, and what it gives is on the device: how many tokens were accepted decides what the
  # caches forget, and the next round needs no more.

  alias Emily.Generation.{Compiled, Sampler, Step}

  @doc """
  A round, compiled: `{outcome, last, scores, caches, state}` from both models' parameters, the last token `{1}`, both models'
  caches and the sampler's state.

  The outcome, `{count + 2}` of `:s32`, is how many tokens the round gives, and these tokens with others behind them.
  Their log-probabilities, `{count + 1}`, are the scores, if `scored?`; else these are `{}`.
  """
  @spec new(Emily.Generation.t(), Emily.Generation.t(), Sampler.t(), pos_integer(), boolean()) ::
          Compiled.t()
  def new(generation, draft, sampler, count, scored?) do
    forward = generation.forward
    trims = {generation.store.trim, draft.store.trim}
    draft = draft.forward

    Compiled.new(
      fn {params, draft_params}, last, {cache, draft_cache}, state ->
        proposed = propose(draft, draft_params, last, draft_cache, {sampler, state}, count)
        {tokens, probabilities, draft_cache, drawn} = proposed
        asked = Nx.concatenate([Nx.new_axis(last, 1), tokens], axis: 1)
        {logits, cache} = Step.call(forward, params, asked, cache)
        target = Sampler.probabilities(sampler, logits, state, tokens)

        # The numbers go on from the draft's, and the last tokens from those before it.
        drawn = %{drawn | recent: state.recent}
        {accepted, last, state} = Sampler.accept(sampler, target, probabilities, tokens, drawn)

        chosen = chosen(tokens, accepted, last)
        scores = if scored?, do: Sampler.log_probability(logits, chosen)[0], else: {}
        outcome = Nx.concatenate([Nx.add(accepted, 1), chosen[0]])
        {outcome, last, scores, forget(trims, {cache, draft_cache}, accepted, count), state}
      end,
      generation.defn_options
    )
  end

  # The draft reads its last token, too: its cache then is as far as the model's.
  defp propose(draft, params, last, cache, {sampler, state}, count) do
    {tokens, {last, cache, state}} =
      Enum.map_reduce(1..count, {last, cache, state}, fn _at, {last, cache, state} ->
        {logits, cache} = Step.call(draft, params, Nx.new_axis(last, 1), cache)
        logits = Nx.squeeze(logits, axes: [1])
        probabilities = if not greedy?(sampler), do: Sampler.probabilities(sampler, logits, state)
        {token, state} = Sampler.sample(sampler, logits, state)
        {{token, probabilities}, {token, cache, state}}
      end)

    {_logits, cache} = Step.call(draft, params, Nx.new_axis(last, 1), cache)
    {tokens, probabilities} = Enum.unzip(tokens)
    probabilities = if not greedy?(sampler), do: Nx.stack(probabilities, axis: 1)
    {Nx.stack(tokens, axis: 1), probabilities, cache, state}
  end

  defp greedy?(sampler), do: sampler.temperature == 0

  # The tokens that are accepted, and the one that follows them in the place after.
  defp chosen(tokens, accepted, last) do
    tokens = Nx.pad(tokens, 0, [{0, 0, 0}, {0, 1, 0}])
    place = Nx.iota(Nx.shape(tokens), axis: 1, type: :s32)
    follows = Nx.equal(place, Nx.new_axis(accepted, 1))
    Nx.select(follows, Nx.new_axis(last, 1), tokens)
  end

  defp forget({trim, draft_trim}, {cache, draft_cache}, accepted, count) do
    excess = Nx.subtract(count, accepted[0])
    {trim.(cache, excess), draft_trim.(draft_cache, excess)}
  end
end
