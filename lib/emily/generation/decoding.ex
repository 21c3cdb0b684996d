defmodule Emily.Generation.Decoding do
  @moduledoc false
  # Steps, of which one is always under way: it takes the tokens that are read next, and was given to the device
  # before anybody waits for these.

  alias Emily.Generation.{Readout, Session, Step}

  # Tensors that no token depends on, such as a counter of the cache's, are computed now and then: noted and never
  # computed, they would become more and more.
  @sweep 64

  @enforce_keys [:generation, :step, :session, :token, :state, :left]
  defstruct [:generation, :step, :session, :token, :state, :left, :first, fed: [], steps: 0]

  @type t :: %__MODULE__{}

  @doc """
  Begins after `session` with the last token of each row, for at most `most` tokens; the first step is under way.
  """
  @spec start(Emily.Generation.t(), term(), term(), Session.t(), [integer()], term()) :: t()
  def start(generation, sampler, state, session, last, most) do
    advance(%__MODULE__{
      generation: generation,
      step: Step.decode(generation, sampler),
      session: session,
      token: Nx.tensor(last, type: :s32, backend: Nx.BinaryBackend),
      state: state,
      left: most,
      first: last
    })
  end

  @doc "The next token of each row, once it is there, while the step after it is under way."
  @spec next(t()) :: {[[integer()]], t()}
  def next(%{left: 0} = decoding) do
    {tokens, decoding} = Readout.around(decoding.token, fn -> decoding end)
    {[tokens], decoding}
  end

  def next(decoding) do
    {tokens, decoding} = Readout.around(decoding.token, fn -> advance(decoding) end)
    {[tokens], %{decoding | fed: [tokens | decoding.fed]}}
  end

  defp advance(%{generation: generation} = decoding) do
    session = Session.with_room(decoding.session, generation.store, decoding.session.used + 1)
    cache = if session.owned?, do: Nx.donatable(session.cache), else: session.cache
    state = Nx.donatable(decoding.state)
    {token, cache, state} = decoding.step.(generation.params, decoding.token, cache, state)
    Readout.dispatch(token)
    steps = decoding.steps + 1
    if rem(steps, @sweep) == 0, do: Readout.dispatch({cache, state})

    %{
      decoding
      | session: %{session | cache: cache, used: session.used + 1, owned?: true},
        token: token,
        state: state,
        left: less(decoding.left),
        steps: steps
    }
  end

  defp less(:infinity), do: :infinity
  defp less(count), do: count - 1

  @doc "All that was read by now, in a session that others may continue."
  @spec session(t()) :: Session.t()
  def session(%{session: session} = decoding) do
    read = Enum.zip_with([decoding.first | Enum.reverse(decoding.fed)], & &1)
    %{session | tokens: Enum.zip_with(session.tokens, read, &++/2), owned?: false}
  end
end
