defmodule Emily.Generation.Run do
  @moduledoc false
  # One generation from its prompt to its end: what `generate/3` and `stream/3` have in common.

  alias Emily.Generation.{Decoding, Prefill, Prompt, Request, Result, Session, Span, Stop}

  @enforce_keys [:request, :decoding, :rows, :reading, :span]
  defstruct [:request, :decoding, :rows, :reading, :span]

  @typedoc "A run; `reading` is what the prompt took, and the rows' generated tokens are in `rows`."
  @type t :: %__MODULE__{}

  @doc "Reads the prompt, and has the first step under way."
  @spec start(Emily.Generation.t(), Request.t()) :: t()
  def start(generation, request) do
    {session, last, reading} = read(generation, request.prompt, request.session, request.most)
    rows = Enum.map(request.prompt.rows, fn _ -> %Stop.Row{} end)
    span = Span.open(:decode, %{rows: length(rows)})

    decoding =
      Span.guarded(span, fn ->
        Decoding.start(generation, request.sampler, {}, session, last, request.most)
      end)

    %__MODULE__{request: request, decoding: decoding, rows: rows, reading: reading, span: span}
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
    {session, Enum.map(rests, &List.last/1), %{read: read, reused: reused, seconds: seconds}}
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
      {steps, decoding} = Decoding.next(run.decoding)

      {given, rows} =
        Enum.flat_map_reduce(steps, run.rows, &push(run.request.stop, &1, &2))

      {given, %{run | decoding: decoding, rows: rows}}
    end)
  end

  defp push(stop, tokens, rows) do
    pushed = Enum.zip_with(rows, tokens, &Stop.push(stop, &1, &2))

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
      session: Decoding.session(run.decoding),
      prompt_tokens: Enum.sum(Prompt.lengths(run.request.prompt)),
      reused_tokens: reading.reused,
      generated_tokens: count,
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
