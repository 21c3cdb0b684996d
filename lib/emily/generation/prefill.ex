defmodule Emily.Generation.Prefill do
  @moduledoc false
  # A prompt's way into the cache, piece by piece.
  #
  # What is left of a prompt after whole pieces goes in as powers of two, the largest first. So there are as many compiled
  # functions as powers of two fit a piece, and one more, whatever lengths come; and no token is there that the prompt
  # does not have, which caches that forget, and states that cannot be undone, could not take back.

  alias Emily.Generation.{Compiled, Readout, Session, Step}

  @doc "The lengths of the pieces for so many tokens."
  @spec pieces(non_neg_integer(), pos_integer()) :: [pos_integer()]
  def pieces(0, _most), do: []
  def pieces(length, most) when length >= most, do: [most | pieces(length - most, most)]

  def pieces(length, most) do
    power = Bitwise.bsl(1, length(Integer.digits(length, 2)) - 1)
    [power | pieces(length - power, most)]
  end

  @doc """
  The session after all columns of `rows`, which have one length. It has room for them.

  Each piece is given to the device while the one before is computed, and no more of them; at the end it waits for all.
  """
  @spec run(Emily.Generation.t(), [[integer()]], Session.t()) :: Session.t()
  def run(_generation, [[] | _], session), do: session

  def run(generation, [row | _] = rows, session) do
    pieces = row |> length() |> pieces(generation.prefill_chunk)
    start = {session, Step.prefill(generation), nil}

    {{session, _step, mark}, _rows} =
      Enum.reduce(pieces, {start, rows}, fn size, {state, rows} ->
        {now, later} = rows |> Enum.map(&Enum.split(&1, size)) |> Enum.unzip()
        {piece(generation, now, size, state), later}
      end)

    {_there, session} = Readout.around([mark], fn -> session end)
    session
  end

  defp piece(generation, rows, size, {session, step, before}) do
    {_there, state} =
      Readout.around(List.wrap(before), fn ->
        tokens = Nx.tensor(rows, type: :s32, backend: Nx.BinaryBackend)
        arguments = [generation.params, tokens, Session.lent(session)]
        {results, step} = Compiled.call(step, {size, Session.mark(session)}, arguments)
        {cache, mark} = results
        {Session.advanced(session, cache, size), step, Readout.dispatch(mark)}
      end)

    state
  end
end
