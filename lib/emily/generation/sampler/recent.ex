defmodule Emily.Generation.Sampler.Recent do
  @moduledoc false
  # The last tokens of each row, `{batch, window}` of `:s32`, the newest at the end; -1 where there is none. It is
  # `{}` if no penalty asks for it.

  @none -1

  @doc "Those of a prompt, in which padding is -1."
  def new(%{repetition_penalty: nil}, _prompt), do: {}

  def new(%{repetition_window: window}, prompt) do
    prompt
    |> Nx.pad(Nx.tensor(@none, type: :s32), [{0, 0, 0}, {window, 0, 0}])
    |> last(window)
  end

  @doc "With `tokens`, `{batch, positions}`, behind them."
  def push({}, _tokens), do: {}

  def push(recent, tokens) do
    [recent, tokens] |> Nx.concatenate(axis: 1) |> last(Nx.axis_size(recent, 1))
  end

  defp last(tokens, window),
    do: Nx.slice_along_axis(tokens, Nx.axis_size(tokens, 1) - window, window, axis: 1)

  @doc "With the accepted ones of a draft's tokens, and the one that follows them, behind them."
  def accepted({}, _tokens, _accepted, _next), do: {}

  def accepted(recent, tokens, accepted, next) do
    {batch, window} = Nx.shape(recent)
    drafted = Nx.axis_size(tokens, 1)
    accepted = Nx.new_axis(accepted, 1)
    room = Nx.pad(tokens, Nx.tensor(@none, type: :s32), [{0, 0, 0}, {0, 1, 0}])
    follows = Nx.equal(Nx.iota({1, drafted + 1}, type: :s32), accepted)
    follows = Nx.broadcast(follows, {batch, drafted + 1})
    next = next |> Nx.new_axis(1) |> Nx.broadcast({batch, drafted + 1})
    at = Nx.add(Nx.iota({1, window}, type: :s32), Nx.add(accepted, 1))

    [recent, Nx.select(follows, next, room)]
    |> Nx.concatenate(axis: 1)
    |> Nx.take_along_axis(at, axis: 1)
  end
end
