defmodule Emily.Generation.Sampler.Draft do
  @moduledoc false
  # Tokens from probabilities, and what becomes of a draft's.

  @doc "The tokens at which the cumulated `weights`, `{batch, vocabulary}`, pass `numbers`, `{batch}`, times their sum."
  def choose(weights, numbers) do
    cumulated = Nx.cumulative_sum(weights, axis: -1)
    last = Nx.slice_along_axis(cumulated, Nx.axis_size(cumulated, -1) - 1, 1, axis: -1)
    passed = Nx.greater(cumulated, Nx.multiply(last, Nx.new_axis(numbers, -1)))

    # A sum in parts may fall by a digit from one token to the next, so those without weight are left out. Where
    # nothing is left for the same reason, the greatest weight wins.
    passed
    |> Nx.logical_and(Nx.greater(weights, 0))
    |> Nx.select(Nx.tensor(:infinity, type: :f32), weights)
    |> Nx.argmax(axis: -1, type: :s32)
  end

  @doc "Probabilities of 1 for these tokens."
  def one_hot(tokens, vocabulary) do
    shape = Tuple.to_list(Nx.shape(tokens)) ++ [vocabulary]

    tokens
    |> Nx.new_axis(-1)
    |> Nx.equal(Nx.iota(List.to_tuple(shape), axis: -1, type: :s32))
    |> Nx.as_type(:f32)
  end

  @doc "How many of the tokens are the greatest ones, and the greatest behind them."
  def greedy(target, tokens) do
    greatest = Nx.argmax(target, axis: -1, type: :s32)
    drafted = Nx.axis_size(tokens, 1)
    accepted = agreed(Nx.equal(Nx.slice_along_axis(greatest, 0, drafted, axis: 1), tokens))

    {accepted,
     greatest |> Nx.take_along_axis(Nx.new_axis(accepted, 1), axis: 1) |> Nx.squeeze(axes: [1])}
  end

  @doc "As Leviathan et al. have it, with numbers of `{batch, drafted + 1}`."
  def accept(target, draft, tokens, numbers) do
    {batch, drafted} = Nx.shape(tokens)
    vocabulary = Nx.axis_size(target, -1)
    draft = draft || one_hot(tokens, vocabulary)
    at = Nx.new_axis(tokens, -1)
    before = Nx.slice_along_axis(target, 0, drafted, axis: 1)

    [likely, drawn] =
      for x <- [before, draft], do: x |> Nx.take_along_axis(at, axis: 2) |> Nx.squeeze(axes: [2])

    chances = Nx.slice_along_axis(numbers, 0, drafted, axis: 1)
    accepted = chances |> Nx.multiply(drawn) |> Nx.less(likely) |> agreed()

    # What the draft had too little of; behind the draft's end, all.
    draft = Nx.pad(draft, 0.0, [{0, 0, 0}, {0, 1, 0}, {0, 0, 0}])
    row = accepted |> Nx.reshape({batch, 1, 1}) |> Nx.broadcast({batch, 1, vocabulary})

    [target, draft] =
      for x <- [target, draft], do: x |> Nx.take_along_axis(row, axis: 1) |> Nx.squeeze(axes: [1])

    rest = target |> Nx.subtract(draft) |> Nx.max(0)
    # Of equal probabilities nothing is rejected but for a digit.
    some =
      rest |> Nx.sum(axes: [-1], keep_axes: true) |> Nx.greater(0) |> Nx.broadcast(rest.shape)

    {accepted, choose(Nx.select(some, rest, target), numbers[[.., drafted]])}
  end

  # How many hold, up to the first that does not.
  defp agreed(each),
    do: each |> Nx.as_type(:s32) |> Nx.cumulative_product(axis: 1) |> Nx.sum(axes: [1])
end
