defmodule Emily.Generation.Session do
  @moduledoc """
  What a model has read: tokens, and the cache that has them.

  `Emily.Generation.prefill/3` and `Emily.Generation.generate/3` give sessions, and both take one as `:session`, as
  `Emily.Generation.stream/3` does: what it has in common with the new prompt is not computed again. A session is a value. It
  may be continued any number of times, in different ways, by generations of the models that it comes from; nobody checks that.
  """

  alias Emily.Generation.{Compiled, Prompt}

  @enforce_keys [:tokens, :cache, :used, :capacity]
  defstruct [:tokens, :cache, :used, :capacity, :draft, owned?: false]

  @typedoc """
  `tokens` are those of each row that are in the cache, whose `used` positions include the padding of shorter rows;
  there is room for `capacity` of them. `draft` is what a draft model has read, if there was one. While `owned?` nobody else
  has the cache, and calls may compute in its memory.
  """
  @type t :: %__MODULE__{
          tokens: [[non_neg_integer()], ...],
          cache: Nx.Container.t(),
          used: non_neg_integer(),
          capacity: pos_integer() | :infinity,
          draft: t() | nil,
          owned?: boolean()
        }

  @doc false
  # The session to begin with, and what of each row is to be read still, in rows of one length; padded ones begin with
  # zeros. The last token of each row is read by the first step, so at least that one is left.
  @spec open(Emily.Generation.Store.t(), Prompt.t(), t() | nil) :: {t(), [[non_neg_integer()]]}
  def open(store, prompt, session) do
    with %__MODULE__{} <- session,
         {:ok, kept, rests} <- common(session, prompt),
         {:ok, session} <- trimmed(store, session, kept) do
      {session, rests}
    else
      _nothing -> fresh(store, prompt)
    end
  end

  defp fresh(store, %Prompt{rows: rows} = prompt) do
    lengths = Prompt.lengths(prompt)
    most = Enum.max(lengths)
    padding = Enum.map(lengths, &(most - &1))
    cache = store.new.(length(rows))

    cache =
      if Enum.any?(padding, &(&1 > 0)), do: padded(store, cache, padding, lengths), else: cache

    rests = Enum.zip_with(rows, padding, fn row, count -> List.duplicate(0, count) ++ row end)

    session = %__MODULE__{
      tokens: Enum.map(rows, fn _ -> [] end),
      cache: cache,
      used: 0,
      capacity: store.room.(cache),
      owned?: true
    }

    {session, rests}
  end

  defp padded(%{pad: nil}, _cache, _padding, lengths) do
    raise ArgumentError,
          "expected prompts of the same length for a cache without :pad, got: lengths of #{inspect(lengths)}"
  end

  defp padded(%{pad: pad}, cache, padding, _lengths),
    do: pad.(cache, Nx.tensor(padding, type: :s32))

  # Rows end together, so as many positions are forgotten of each, and as many tokens are read in each.
  defp common(%{tokens: held} = session, %Prompt{rows: rows}) do
    if length(held) != length(rows) do
      raise ArgumentError,
            "expected a prompt of as many rows as the session has, #{length(held)}, got: #{length(rows)}"
    end

    forgotten =
      Enum.zip_with(held, rows, fn held, row -> length(held) - shared(held, row, 0) end)
      |> Enum.max()

    kept = Enum.map(held, &(length(&1) - forgotten))
    rests = Enum.zip_with(rows, kept, &Enum.drop(&1, max(&2, 0)))

    if Enum.min(kept) > 0 and rests |> Enum.uniq_by(&length/1) |> length() == 1,
      do: {:ok, session.used - forgotten, rests},
      else: :nothing
  end

  defp shared([token | held], [token | [_ | _] = row], count), do: shared(held, row, count + 1)
  defp shared(_held, _row, count), do: count

  defp trimmed(_store, %{used: used} = session, used), do: {:ok, session}

  defp trimmed(store, %{used: used} = session, kept) do
    with {:ok, cache} <- store.try_trim.(session.cache, used - kept) do
      tokens = Enum.map(session.tokens, &Enum.drop(&1, kept - used))
      {:ok, %{session | cache: cache, tokens: tokens, used: kept}}
    end
  end

  @doc false
  # The cache as an argument of a function that gives the next one.
  @spec lent(t()) :: Nx.Container.t()
  def lent(%{owned?: true, cache: cache}), do: Compiled.lend(cache)
  def lent(%{cache: cache}), do: cache

  @doc false
  # What functions of the cache are compiled for.
  @spec mark(t()) :: term()
  def mark(%{capacity: capacity, owned?: owned?}), do: {capacity, owned?}

  @doc false
  # The session after so many more positions.
  @spec advanced(t(), Nx.Container.t(), non_neg_integer()) :: t()
  def advanced(session, cache, positions),
    do: %{session | cache: cache, used: session.used + positions, owned?: true}

  @doc false
  # The session with room for so many positions in all.
  @spec with_room(t(), Emily.Generation.Store.t(), pos_integer()) :: t()
  def with_room(%{capacity: capacity} = session, _store, positions) when positions <= capacity,
    do: session

  def with_room(%{capacity: capacity}, %{grow: nil}, positions) do
    raise ArgumentError,
          "expected at most #{capacity} positions, which is the cache's :capacity, got: #{positions}"
  end

  def with_room(session, store, positions) do
    # What grew is a copy, but other tensors of the cache may not be.
    cache = store.grow.(session.cache, positions)
    %{session | cache: cache, capacity: max(positions, store.room.(cache))}
  end
end
