defmodule Emily.Fast.Attention do
  @moduledoc false

  alias Emily.Fast.Kernel

  @enforce_keys [:scale]
  defstruct [:scale, sinks: false]

  # What a mask of floats, and sinks, may be of; others become one of these.
  @types [{:f, 32}, {:f, 16}, {:bf, 16}]

  @doc "As `Emily.Fast.scaled_dot_product_attention/4`, with all options."
  @spec apply(Nx.Tensor.t(), Nx.Tensor.t(), Nx.Tensor.t(), keyword()) :: Nx.Tensor.t()
  def apply(query, key, value, opts) do
    query = Kernel.floating(query)
    [key, value] = for x <- [key, value], do: x |> Nx.to_tensor() |> Nx.as_type(query.type)
    {batch, heads, positions, features, seen, value_features} = sizes!(query, key, value)
    scores = {batch, heads, positions, seen}
    scale = opts[:scale] || 1 / :math.sqrt(features)
    scale = Kernel.number!(scale, :scale, fn _any -> true end, "a number")
    mask = opts[:mask] |> given(scores) |> causal(opts[:causal], scores) |> known(query.type)
    sinks = opts[:sinks] |> sinks!(heads) |> known(query.type)
    attention = %__MODULE__{scale: scale, sinks: sinks != nil}
    inputs = Enum.reject([query, key, value, mask, sinks], &is_nil/1)
    shape = {batch, heads, positions, value_features}

    composed =
      case inputs do
        [_q, _k, _v] -> &composed/4
        [_q, _k, _v, _mask_or_sinks] -> &composed/5
        _both -> &attended/6
      end

    Kernel.call(attention, inputs, shape, composed)
  end

  defp sinks!(nil, _heads), do: nil

  defp sinks!(sinks, heads) do
    sinks = Kernel.floating(sinks)
    Kernel.expect!(sinks.shape == {heads}, ":sinks to be one for each head", [sinks])
    sinks
  end

  defp known(nil, _type), do: nil
  defp known(%{type: {:u, 8}} = hidden, _type), do: hidden
  defp known(%{type: type} = x, _type) when type in @types, do: x
  defp known(x, type), do: Nx.as_type(x, type)

  defp sizes!(%{shape: query} = q, %{shape: key} = k, %{shape: value} = v) do
    with {batch, heads, positions, features} <- query,
         {^batch, groups, seen, ^features} <- key,
         {^batch, ^groups, ^seen, value_features} <- value,
         0 <- rem(heads, groups) do
      {batch, heads, positions, features, seen, value_features}
    else
      _other ->
        Kernel.expect!(
          false,
          "query, key and value of {batch, heads, positions, features} that fit",
          [q, k, v]
        )
    end
  end

  defp given(nil, _scores), do: nil

  defp given(mask, scores) do
    mask = Nx.to_tensor(mask)

    Kernel.expect!(broadcasts?(mask.shape, scores), ":mask to broadcast to #{inspect(scores)}", [
      mask
    ])

    if Nx.Type.integer?(mask.type), do: Nx.not_equal(mask, 0), else: mask
  end

  defp broadcasts?(from, to) do
    from = from |> Tuple.to_list() |> Enum.reverse()
    to = to |> Tuple.to_list() |> Enum.reverse()
    length(from) <= length(to) and Enum.zip_with(from, to, &(&1 in [1, &2])) |> Enum.all?()
  end

  defp causal(mask, true, {_batch, _heads, positions, seen}) do
    query = Nx.add(Nx.iota({positions, 1}), seen - positions)
    visible = Nx.greater_equal(query, Nx.iota({1, seen}))

    cond do
      mask == nil -> visible
      mask.type == {:u, 8} -> Nx.logical_and(mask, visible)
      true -> Nx.add(mask, Nx.select(visible, Nx.tensor(0, type: mask.type), least(mask.type)))
    end
  end

  defp causal(mask, _not, _scores), do: mask

  # Weights of what is hidden are 0, and no NaN comes of hiding all.
  defp least(type), do: Nx.Constants.min_finite(type)

  defp composed(attention, query, key, value),
    do: attended(attention, query, key, value, nil, nil)

  defp composed(%{sinks: true} = attention, query, key, value, sinks),
    do: attended(attention, query, key, value, nil, sinks)

  defp composed(attention, query, key, value, mask),
    do: attended(attention, query, key, value, mask, nil)

  defp attended(%{scale: scale}, query, key, value, mask, sinks) do
    type = Kernel.wide(query.type)
    [q, k, v] = for x <- [query, key, value], do: Nx.as_type(x, type)
    {batch, heads, positions, features} = Nx.shape(q)
    {_batch, groups, seen, _features} = Nx.shape(k)
    each = div(heads, groups)

    weights =
      q
      |> Nx.reshape({batch, groups, each * positions, features})
      |> Nx.dot([3], [0, 1], k, [3], [0, 1])
      |> Nx.multiply(Kernel.scalar(scale, type))
      |> Nx.reshape({batch, heads, positions, seen})
      |> masked(mask, type)
      |> softmax(sinks, type)

    weights
    |> Nx.reshape({batch, groups, each * positions, seen})
    |> Nx.dot([3], [0, 1], v, [2], [0, 1])
    |> Nx.reshape({batch, heads, positions, :auto})
    |> Nx.as_type(query.type)
  end

  defp masked(scores, nil, _type), do: scores
  defp masked(scores, %{type: {:u, 8}} = mask, type), do: hide(scores, mask, type)
  defp masked(scores, mask, type), do: Nx.add(scores, Nx.as_type(mask, type))

  defp hide(scores, mask, type) do
    mask = Nx.broadcast(mask, scores.shape)
    Nx.select(mask, scores, least(type))
  end

  defp softmax(scores, nil, _type) do
    greatest = Nx.reduce_max(scores, axes: [-1], keep_axes: true)
    exp = Nx.exp(Nx.subtract(scores, greatest))
    Nx.divide(exp, Nx.sum(exp, axes: [-1], keep_axes: true))
  end

  defp softmax(scores, sinks, type) do
    {batch, heads, positions, seen} = Nx.shape(scores)
    sinks = sinks |> Nx.as_type(type) |> Nx.reshape({1, heads, 1, 1})
    sinks = Nx.broadcast(sinks, {batch, heads, positions, 1})

    [scores, sinks]
    |> Nx.concatenate(axis: 3)
    |> softmax(nil, type)
    |> Nx.slice_along_axis(0, seen, axis: 3)
  end
end
