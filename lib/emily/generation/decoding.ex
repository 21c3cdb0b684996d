defmodule Emily.Generation.Decoding do
  @moduledoc false
  # Steps, of which one is always under way: it takes the tokens that are read next, and was given to the device
  # before anybody waits for these.

  alias Emily.Generation.{Compiled, Readout, Request, Session, Step}

  # So many steps pass between two times that counters are computed.
  @sweep 64

  # How many positions before a cache is full its next size is compiled for.
  @ahead 64

  @enforce_keys [:generation, :step, :session, :token, :scores, :state, :left, :first]
  defstruct @enforce_keys ++ [:prepared, fed: [], counters: [], steps: 0, drafted: 0, accepted: 0]

  @typedoc "Steps; `token` is what the one under way gives, and `fed` what others were given, the newest first."
  @type t :: %__MODULE__{}

  @typedoc "A token and its log-probability, for each row."
  @type given :: [{non_neg_integer(), float() | nil}]

  @doc """
  Begins after `session` with the last token of each row; the first step is under way.
  """
  @spec start(Emily.Generation.t(), Request.t(), term(), Session.t(), [integer()]) :: t()
  def start(generation, request, state, session, last) do
    advance(%__MODULE__{
      generation: generation,
      step: Step.decode(generation, request.sampler, request.scored?),
      session: session,
      token: Nx.tensor(last, type: :s32, backend: Nx.BinaryBackend),
      scores: {},
      state: state,
      left: request.most,
      first: last
    })
  end

  @doc "The next token of each row, once it is there, while the step after it is under way."
  @spec next(t()) :: {[given()], t()}
  def next(%{left: left} = decoding) do
    ahead = fn -> if left == 0, do: decoding, else: advance(decoding) end

    case Readout.around([decoding.token | List.wrap(scores(decoding.scores))], ahead) do
      {[tokens], decoding} -> {[Enum.map(tokens, &{&1, nil})], fed(decoding, left, tokens)}
      {[tokens, scores], decoding} -> {[Enum.zip(tokens, scores)], fed(decoding, left, tokens)}
    end
  end

  defp scores({}), do: nil
  defp scores(scores), do: scores

  defp fed(decoding, 0, _tokens), do: decoding
  defp fed(decoding, _left, tokens), do: %{decoding | fed: [tokens | decoding.fed]}

  defp advance(%{generation: generation} = decoding) do
    session = Session.with_room(decoding.session, generation.store, decoding.session.used + 1)
    state = Compiled.lend(decoding.state)
    arguments = [generation.params, decoding.token, Session.lent(session), state]
    {results, step} = Compiled.call(decoding.step, Session.mark(session), arguments)
    {token, scores, cache, state} = results

    Readout.dispatch(token)
    steps = decoding.steps + 1
    decoding = prepare(decoding, session, arguments)

    %{
      decoding
      | step: step,
        session: Session.advanced(session, cache, 1),
        token: token,
        scores: scores,
        state: state,
        left: Request.less(decoding.left),
        steps: steps,
        counters: counters(decoding.counters, steps, {cache, state})
    }
  end

  # The device would wait while the step is compiled for a cache that has grown. Growing is traced, and computes nothing.
  defp prepare(%{prepared: capacity} = decoding, %{capacity: capacity}, _arguments), do: decoding

  defp prepare(decoding, %{capacity: capacity, used: used}, arguments) do
    if full?(capacity, used, decoding) do
      [params, token, cache, state] = Compiled.templates(arguments)
      grow = &decoding.generation.store.grow.(&1, capacity + 1)
      grown = Nx.Defn.debug_expr_apply(grow, [cache])
      [grown] = Compiled.templates([grown])
      Compiled.prepare(decoding.step, [params, token, Compiled.lend(grown), state])
      %{decoding | prepared: capacity}
    else
      decoding
    end
  end

  # Whether more positions are to come soon than there is room for. Of small caches they always are.
  defp full?(capacity, used, %{left: left, generation: %{store: store}}) do
    store.grow != nil and is_integer(capacity) and capacity >= 2 * @ahead and
      capacity - used <= @ahead and (left == :infinity or used + left > capacity)
  end

  @doc """
  What is to be held on to while it is computed: after so many steps the counters of what they carry, and in between
  what it was before.
  """
  @spec counters([Nx.Tensor.t()], pos_integer(), Nx.Container.t()) :: [Nx.Tensor.t()]
  def counters(_before, steps, carried) when rem(steps, @sweep) == 0,
    do: carried |> Compiled.counters() |> Enum.map(&Readout.dispatch/1)

  def counters(before, _steps, _carried), do: before

  @doc "All that was read by now, in a session that others may continue."
  @spec session(t()) :: Session.t()
  def session(%{session: session} = decoding) do
    read = Enum.zip_with([decoding.first | Enum.reverse(decoding.fed)], & &1)
    %{session | tokens: Enum.zip_with(session.tokens, read, &++/2), owned?: false}
  end
end
