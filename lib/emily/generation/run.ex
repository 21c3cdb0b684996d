defmodule Emily.Generation.Run do
  @moduledoc false
  # One generation from its prompt to its end: what `generate/3` and `stream/3` have in common.

  alias Emily.Generation.{
    Decoding,
    Prefill,
    Prompt,
    Request,
    Result,
    Sampler,
    Session,
    Span,
    Speculation,
    Stop
  }

  @enforce_keys [:request, :decoding, :rows, :reading, :span]
  defstruct [:request, :decoding, :rows, :reading, :span]

  @typedoc "A run; `reading` is what the prompt took, and the rows' generated tokens are in `rows`."
  @type t :: %__MODULE__{}

  @doc "Reads the prompt, and has the first step under way."
  @spec start(Emily.Generation.t(), Request.t()) :: t()
  def start(generation, request) do
    {sessions, last, reading} = read_all(generation, request)
    rows = Enum.map(request.prompt.rows, fn _ -> %Stop.Row{} end)
    span = Span.open(:decode, %{rows: length(rows)})

    decoding =
      Span.guarded(span, fn ->
        state = state(generation, request)

        case sessions do
          {session, nil} -> Decoding.start(generation, request, state, session, last)
          sessions -> Speculation.start(generation, request, state, sessions, last)
        end
      end)

    %__MODULE__{request: request, decoding: decoding, rows: rows, reading: reading, span: span}
  end

  defp read_all(generation, %{draft: nil} = request) do
    {session, last, reading} =
      read(generation, request.prompt, request.session, request.most)

    {{session, nil}, last, reading}
  end

  # A round may read as many tokens more as the draft proposes.
  defp read_all(generation, %{draft: {draft, count}} = request) do
    %{prompt: prompt, session: session, most: most} = request
    most = if most == :infinity, do: most, else: most + count
    {session, last, reading} = read(generation, prompt, session, most)
    {draft_session, _last, _reading} = read(draft, prompt, session.draft, most)
    {{session, draft_session}, last, reading}
  end

  defp state(generation, %{prompt: prompt} = request) do
    lengths = Prompt.lengths(prompt)
    most = Enum.max(lengths)
    starts = Enum.map(lengths, &(most - &1))
    rows = Enum.zip_with(prompt.rows, starts, &(List.duplicate(0, &2) ++ &1))
    options = if request.seed, do: [seed: request.seed], else: []

    Nx.with_default_backend(Nx.Defn.to_backend(generation.defn_options), fn ->
      Sampler.init(request.sampler, rows, [starts: starts] ++ options)
    end)
  end

  @doc """
  Reads a prompt but for the last token of each row, which it returns beside the session; `most` tokens are to follow.
  """
  @spec read(Emily.Generation.t(), Prompt.t(), Session.t() | nil, pos_integer() | :infinity) ::
          {Session.t(), [non_neg_integer()], map()}
  def read(generation, prompt, session, most \\ :infinity) do
    {session, rests} = Session.open(generation.store, prompt, session)
    length = length(hd(rests)) - 1
    fits!(generation.store, session, session.used + length, most)
    reused = session.tokens |> Enum.map(&length/1) |> Enum.sum()
    read = Enum.sum_by(Prompt.lengths(prompt), &(&1 - 1)) - reused
    span = Span.open(:prefill, %{rows: length(rests)})

    session =
      Span.guarded(span, fn ->
        session = Session.with_room(session, generation.store, max(session.used + length, 1))
        Prefill.run(generation, Enum.map(rests, &Enum.take(&1, length)), session)
      end)

    seconds = Span.close(span, read, %{reused: reused})
    session = %{session | tokens: Enum.map(prompt.rows, &Enum.drop(&1, -1))}
    last = Enum.map(rests, &List.last/1)
    {session, last, %{read: read, reused: reused, seconds: seconds}}
  end

  # Before anything is computed: the last token is never read.
  defp fits!(%{grow: nil}, %{capacity: capacity}, used, most) when is_integer(most) do
    if used + most > capacity do
      raise ArgumentError,
            "expected a prompt and :max_tokens of at most #{capacity} positions together, which is the cache's " <>
              ":capacity, got: #{used + most}"
    end
  end

  defp fits!(_store, _session, _used, _most), do: :ok

  @doc "Whether all rows have ended."
  @spec done?(t()) :: boolean()
  def done?(run), do: Enum.all?(run.rows, & &1.reason)

  @doc "What can be handed out next, `{row, token}` in the order of the steps."
  @spec next(t()) :: {[{non_neg_integer(), non_neg_integer()}], t()}
  def next(run) do
    Span.guarded(run.span, fn ->
      {steps, decoding} = run.decoding.__struct__.next(run.decoding)

      {given, rows} =
        Enum.flat_map_reduce(steps, run.rows, &push(run.request.stop, &1, &2))

      {given, %{run | decoding: decoding, rows: rows}}
    end)
  end

  defp push(stop, given, rows) do
    pushed = Enum.zip_with(rows, given, &Stop.push(stop, &1, &2))

    given =
      for {{tokens, _row}, index} <- Enum.with_index(pushed), token <- tokens, do: {index, token}

    {given, Enum.map(pushed, &elem(&1, 1))}
  end

  @doc "What is handed out, as whoever asked sees it: with its row's number where there are rows."
  @spec shown(t(), [{non_neg_integer(), non_neg_integer()}]) :: [term()]
  def shown(%{request: %{prompt: %{single?: true}}}, given), do: Enum.map(given, &elem(&1, 1))
  def shown(_run, given), do: given

  @doc "Calls the function that was to be told of tokens."
  @spec tell(t(), [{non_neg_integer(), non_neg_integer()}]) :: :ok
  def tell(%{request: %{on_token: nil}}, _given), do: :ok

  def tell(%{request: %{on_token: on_token}} = run, given),
    do: Span.guarded(run.span, fn -> run |> shown(given) |> Enum.each(on_token) end)

  @doc "Ends a run, wherever it stands. Returns the seconds that it took to generate."
  @spec stop(t()) :: float()
  def stop(run),
    do: Span.close(run.span, generated(run), %{steps: run.decoding.steps})

  @doc "Ends a run and says what came of it."
  @spec result(t()) :: Result.t()
  def result(%{reading: reading} = run) do
    {seconds, count} = {stop(run), generated(run)}

    %Result{
      tokens: each(run, &Enum.reverse(&1.tokens)),
      reason: each(run, & &1.reason),
      log_probabilities: if(run.request.scored?, do: each(run, &Enum.reverse(&1.scores))),
      session: run.decoding.__struct__.session(run.decoding),
      prompt_tokens: Enum.sum(Prompt.lengths(run.request.prompt)),
      reused_tokens: reading.reused,
      generated_tokens: count,
      drafted_tokens: run.decoding.drafted,
      accepted_tokens: run.decoding.accepted,
      prefill_seconds: reading.seconds,
      decode_seconds: seconds,
      prefill_tokens_per_second: Span.rate(reading.read, reading.seconds),
      decode_tokens_per_second: Span.rate(count, seconds)
    }
  end

  defp each(%{rows: [row], request: %{prompt: %{single?: true}}}, fun), do: fun.(row)
  defp each(%{rows: rows}, fun), do: Enum.map(rows, fun)

  defp generated(run), do: Enum.sum_by(run.rows, & &1.count)
end
