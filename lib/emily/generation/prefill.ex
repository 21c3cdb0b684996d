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

  Each piece is given to the device while the one before is computed; at the end it waits for all.
  """
  @spec run(Emily.Generation.t(), [[integer()]], Session.t()) :: Session.t()
  def run(_generation, [[] | _], session), do: session

  def run(generation, [row | _] = rows, session) do
    step = Step.prefill(generation)
    pieces = row |> length() |> pieces(generation.prefill_chunk)

    {session, _step, _rows} =
      Enum.reduce(pieces, {session, step, rows}, fn size, {session, step, rows} ->
        {now, later} = rows |> Enum.map(&Enum.split(&1, size)) |> Enum.unzip()
        {session, step} = piece(generation, step, now, size, session)
        {session, step, later}
      end)

    Emily.Backend.eval(session.cache)
    session
  end

  defp piece(generation, step, rows, size, session) do
    tokens = Nx.tensor(rows, type: :s32, backend: Nx.BinaryBackend)
    arguments = [generation.params, tokens, Session.lent(session)]
    {cache, step} = Compiled.call(step, {size, Session.mark(session)}, arguments)
    {Session.advanced(session, Readout.dispatch(cache), size), step}
  end
end
