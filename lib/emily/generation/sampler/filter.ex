defmodule Emily.Generation.Sampler.Filter do
  @moduledoc false
  # What is done to logits, of `:f32` and any number of axes, of which the last is the vocabulary. A token is
  # taken out by a logit of minus infinity.

  @doc "Adds to the logits of some tokens."
  def bias(logits, []), do: logits

  def bias(logits, pairs) do
    vocabulary = Nx.axis_size(logits, -1)

    for {token, _value} <- pairs, token >= vocabulary do
      raise ArgumentError,
            "expected tokens of :logit_bias below #{vocabulary}, the size of the vocabulary, got: #{token}"
    end

    {tokens, values} = Enum.unzip(pairs)

    added =
      Nx.indexed_put(
        Nx.broadcast(Nx.tensor(0.0, type: :f32), {vocabulary}),
        Nx.new_axis(Nx.tensor(tokens, type: :s32), 1),
        Nx.tensor(values, type: :f32)
      )

    Nx.add(logits, added)
  end

  @doc "Makes the tokens in `recent`, `{batch, window}`, less likely."
  def repetition(logits, recent, penalty) do
    {batch, vocabulary} = Nx.shape(logits)
    window = Nx.axis_size(recent, 1)
    # What is no token is counted behind the last one.
    nowhere = Nx.logical_or(Nx.less(recent, 0), Nx.greater_equal(recent, vocabulary))
    tokens = Nx.select(nowhere, vocabulary, recent)
    rows = Nx.iota({batch, window}, axis: 0, type: :s32)
    indices = [rows, tokens] |> Nx.stack(axis: -1) |> Nx.reshape({batch * window, 2})

    seen =
      Nx.tensor(0, type: :u8)
      |> Nx.broadcast({batch, vocabulary + 1})
      |> Nx.indexed_put(indices, Nx.broadcast(Nx.tensor(1, type: :u8), {batch * window}))
      |> Nx.slice_along_axis(0, vocabulary, axis: 1)

    less =
      Nx.select(
        Nx.less(logits, 0),
        Nx.multiply(logits, penalty),
        Nx.divide(logits, penalty)
      )

    Nx.select(seen, less, logits)
  end

  @doc "The probabilities after temperature and filters, in the sampler's order."
  def probabilities(sampler, logits) do
    {logits, _sorted} =
      Enum.reduce(sampler.order, {logits, nil}, fn name, both ->
        filter(name, Map.fetch!(sampler, name), both)
      end)

    softmax(logits)
  end

  # `sorted` are the logits that are left, from the greatest on, once something has sorted them: there may be
  # fewer of them, but they end with the least one that is left.
  defp filter(_name, nil, both), do: both
  defp filter(:temperature, 1.0, both), do: both

  defp filter(:temperature, temperature, {logits, sorted}),
    do: {Nx.divide(logits, temperature), sorted && Nx.divide(sorted, temperature)}

  defp filter(:top_k, count, {logits, sorted} = both) do
    if count >= Nx.axis_size(sorted || logits, -1) do
      both
    else
      sorted = if sorted, do: first(sorted, count), else: greatest(logits, count)
      {from(logits, Nx.slice_along_axis(sorted, count - 1, 1, axis: -1)), sorted}
    end
  end

  defp filter(:top_p, share, {logits, sorted}) do
    sorted = sorted || Nx.sort(logits, axis: -1, direction: :desc)
    most = first(sorted, 1)
    all = logits |> Nx.subtract(most) |> Nx.exp() |> Nx.sum(axes: [-1], keep_axes: true)
    shares = sorted |> Nx.subtract(most) |> Nx.exp() |> Nx.divide(all)
    # What those before it have together.
    before = shares |> Nx.cumulative_sum(axis: -1) |> Nx.subtract(shares)
    infinity = Nx.Constants.infinity(:f32)

    least =
      before
      |> Nx.less(share)
      |> Nx.select(sorted, infinity)
      |> Nx.reduce_min(axes: [-1], keep_axes: true)

    {from(logits, least), from(sorted, least)}
  end

  defp filter(:min_p, share, {logits, sorted}) do
    most = Nx.reduce_max(sorted || logits, axes: [-1], keep_axes: true)
    least = Nx.add(most, :math.log(share))
    {from(logits, least), sorted && from(sorted, least)}
  end

  defp first(sorted, count), do: Nx.slice_along_axis(sorted, 0, count, axis: -1)

  # To sort is dear, and long tensors need not be: what is among the `count` greatest lies in one of the `count`
  # chunks with the greatest maxima.
  defp greatest(logits, count) do
    vocabulary = Nx.axis_size(logits, -1)
    size = trunc(:math.sqrt(vocabulary / count))
    chunks = div(vocabulary + size - 1, size)

    if 2 * count < chunks,
      do: logits |> chunked(chunks, size) |> likeliest(count) |> top(count),
      else: top(logits, count)
  end

  defp chunked(logits, chunks, size) do
    [vocabulary | others] = logits.shape |> Tuple.to_list() |> Enum.reverse()
    padding = for(_axis <- others, do: {0, 0, 0}) ++ [{0, chunks * size - vocabulary, 0}]

    logits
    |> Nx.pad(Nx.Constants.neg_infinity(:f32), padding)
    |> Nx.reshape(List.to_tuple(Enum.reverse(others) ++ [chunks, size]))
  end

  defp likeliest(chunked, count) do
    [size, _chunks | others] = chunked.shape |> Tuple.to_list() |> Enum.reverse()
    others = Enum.reverse(others)
    {_maxima, numbers} = chunked |> Nx.reduce_max(axes: [-1]) |> Nx.top_k(k: count)
    numbers = numbers |> Nx.new_axis(-1) |> Nx.broadcast(List.to_tuple(others ++ [count, size]))

    chunked
    |> Nx.take_along_axis(numbers, axis: -2)
    |> Nx.reshape(List.to_tuple(others ++ [count * size]))
  end

  defp top(logits, count) do
    {values, _indices} = Nx.top_k(logits, k: count)
    values
  end

  # Those from `least` on.
  defp from(logits, least),
    do: Nx.select(Nx.greater_equal(logits, least), logits, Nx.Constants.neg_infinity(:f32))

  defp softmax(logits) do
    greatest = Nx.reduce_max(logits, axes: [-1], keep_axes: true)
    exp = Nx.exp(Nx.subtract(logits, greatest))
    Nx.divide(exp, Nx.sum(exp, axes: [-1], keep_axes: true))
  end
end
