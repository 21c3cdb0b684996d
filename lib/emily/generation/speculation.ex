defmodule Emily.Generation.Speculation do
  @moduledoc false
  # Rounds of speculative decoding, of which one is always under way, as `Emily.Generation.Decoding` has steps.
  #
  # How many tokens a round gave is known when it is read, and the next one is under way then. So the positions used
  # are counted as if all tokens had been accepted, until one knows better.

  alias Emily.Generation.{Compiled, Decoding, Readout, Request, Round, Session}

  @enforce_keys [:generation, :draft, :round, :count, :session, :draft_session, :last] ++
                  [:state, :most, :first]
  defstruct @enforce_keys ++
              [
                :outcome,
                :scores,
                read: [],
                counters: [],
                known: 0,
                steps: 0,
                drafted: 0,
                accepted: 0
              ]

  @typedoc "Rounds; `outcome` is what the one under way gives, if there is one, and `read` all tokens, the newest first."
  @type t :: %__MODULE__{}

  @doc "Begins after the sessions of both models with the last token; the first round is under way."
  @spec start(Emily.Generation.t(), Request.t(), term(), {Session.t(), Session.t()}, [integer()]) ::
          t()
  def start(generation, request, state, {session, draft_session}, [first] = last) do
    {draft, count} = request.draft

    advance(%__MODULE__{
      generation: generation,
      draft: draft,
      round: Round.new(generation, draft, request.sampler, count, request.scored?),
      count: count,
      session: session,
      draft_session: draft_session,
      last: Nx.tensor(last, type: :s32, backend: Nx.BinaryBackend),
      state: state,
      most: request.most,
      first: first
    })
  end

  @doc "The tokens of a round, once they are there, while the round after it is under way."
  @spec next(t()) :: {[Emily.Generation.Decoding.given()], t()}
  def next(rounds) do
    # The round that is read gives one token at least.
    more? = rounds.known + 1 < rounds.most
    read(rounds, fn -> if more?, do: advance(rounds), else: %{rounds | outcome: nil} end)
  end

  defp read(rounds, ahead) do
    tensors = if rounds.scores == {}, do: [rounds.outcome], else: [rounds.outcome, rounds.scores]
    {[[count | tokens] | scores], rounds} = Readout.around(tensors, ahead)
    tokens = Enum.take(tokens, count)
    scores = List.first(scores) || List.duplicate(nil, count)
    {Enum.zip_with(tokens, scores, &[{&1, &2}]), learned(rounds, tokens, count)}
  end

  defp learned(rounds, tokens, count) do
    unused = rounds.count + 1 - count
    shorter = fn session -> %{session | used: session.used - unused} end

    %{
      rounds
      | session: shorter.(rounds.session),
        draft_session: shorter.(rounds.draft_session),
        read: Enum.reverse(tokens, rounds.read),
        known: rounds.known + count,
        drafted: rounds.drafted + rounds.count,
        accepted: rounds.accepted + count - 1
    }
  end

  defp advance(%{generation: generation, draft: draft, count: count} = rounds) do
    session = with_room(rounds.session, generation, count)
    draft_session = with_room(rounds.draft_session, draft, count)

    arguments = [
      {generation.params, draft.params},
      rounds.last,
      {Session.lent(session), Session.lent(draft_session)},
      Compiled.lend(rounds.state)
    ]

    mark = {Session.mark(session), Session.mark(draft_session)}
    {results, round} = Compiled.call(rounds.round, mark, arguments)
    {outcome, last, scores, {cache, draft_cache}, state} = results

    Readout.dispatch(outcome)
    steps = rounds.steps + 1

    %{
      rounds
      | round: round,
        session: Session.advanced(session, cache, count + 1),
        draft_session: Session.advanced(draft_session, draft_cache, count + 1),
        outcome: outcome,
        last: last,
        scores: scores,
        state: state,
        steps: steps,
        counters: Decoding.counters(rounds.counters, steps, {cache, draft_cache, state})
    }
  end

  defp with_room(session, generation, count),
    do: Session.with_room(session, generation.store, session.used + count + 1)

  @doc "All that was read by now, in a session that others may continue; waits for the round under way."
  @spec session(t()) :: Session.t()
  def session(%{outcome: nil} = rounds) do
    # The last token is not read yet.
    [_last | read] = rounds.read
    read = [rounds.first | Enum.reverse(read)]
    draft = after_it(rounds.draft_session, read)
    %{after_it(rounds.session, read) | draft: draft}
  end

  def session(rounds) do
    {_tokens, rounds} = read(rounds, fn -> %{rounds | outcome: nil} end)
    session(rounds)
  end

  defp after_it(%{tokens: [tokens]} = session, read),
    do: %{session | tokens: [tokens ++ read], owned?: false}
end
