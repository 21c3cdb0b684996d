defmodule Emily.Generation.Cache.Options do
  @moduledoc false
  # What a cache's functions are given, and whether it makes sense.

  alias Emily.Generation.Cache.{Rotating, Stored}

  @known [
    :layers,
    :heads,
    :head_size,
    :value_size,
    :capacity,
    :bits,
    batch: 1,
    group_size: 64,
    type: :bf16,
    kind: :growing,
    step: 256
  ]

  @doc "The options of a new cache as a map, with a list of `:kinds` for its layers."
  def validate!(opts) do
    opts = opts |> Keyword.validate!(@known) |> Map.new()
    for name <- [:layers, :heads, :head_size, :batch, :step], do: positive!(opts, name)
    opts = Map.put_new(opts, :value_size, opts.head_size)
    opts = Map.put_new(opts, :capacity, opts.step)
    for name <- [:value_size, :capacity], do: positive!(opts, name)
    opts = Map.put_new(opts, :bits, nil)
    quantized!(opts)
    Map.merge(opts, %{kinds: kinds!(opts.kind, opts.layers), type: type!(opts.type)})
  end

  @bits [2, 3, 4, 5, 6, 8]
  @group_sizes [32, 64, 128]

  defp quantized!(%{bits: nil}), do: :ok

  defp quantized!(%{bits: bits, group_size: group_size} = opts) do
    expect!(bits in @bits, ":bits to be one of #{inspect(@bits)} or nil", bits)

    expect!(
      group_size in @group_sizes,
      ":group_size to be one of #{inspect(@group_sizes)}",
      group_size
    )

    for name <- [:head_size, :value_size], size = opts[name] do
      expect!(
        rem(size, group_size) == 0,
        "#{inspect(name)} to be a multiple of :group_size, #{group_size}",
        size
      )
    end

    type = Nx.Type.normalize!(opts.type)

    expect!(
      type in [{:f, 32}, {:f, 16}, {:bf, 16}],
      ":type to be :f32, :f16 or :bf16 beside :bits",
      type
    )
  end

  defp expect!(true, _what, _given), do: :ok

  defp expect!(false, what, given),
    do: raise(ArgumentError, "expected #{what}, got: #{inspect(given)}")

  defp positive!(opts, name) do
    value = opts[name]

    if not (is_integer(value) and value > 0) do
      raise ArgumentError,
            "expected #{inspect(name)} to be a positive integer, got: #{inspect(value)}"
    end
  end

  defp type!(type) do
    type = Nx.Type.normalize!(type)

    if not Nx.Type.float?(type) or Nx.Type.complex?(type),
      do: raise(ArgumentError, "expected :type to be a floating type, got: #{inspect(type)}")

    type
  end

  defp kinds!(kinds, layers) when is_list(kinds) and length(kinds) == layers,
    do: Enum.map(kinds, &kind!/1)

  defp kinds!(kinds, layers) when is_list(kinds) do
    raise ArgumentError,
          "expected :kind to be a list of one for each of #{layers} layers, got: #{inspect(kinds)}"
  end

  defp kinds!(kind, layers), do: List.duplicate(kind!(kind), layers)

  defguardp window?(window, keep)
            when is_integer(window) and is_integer(keep) and keep >= 0 and window > keep

  defp kind!(:growing), do: :growing

  defp kind!({:rotating, window, keep}) when window?(window, keep),
    do: {:rotating, window, keep, 0}

  defp kind!({:rotating, window, keep, spare} = kind)
       when window?(window, keep) and is_integer(spare) and spare >= 0,
       do: kind

  defp kind!(other) do
    raise ArgumentError,
          "expected :kind to be :growing, or {:rotating, window, keep} or {:rotating, window, keep, spare} " <>
            "with integers from 0 on and a window greater than keep, got: #{inspect(other)}"
  end

  @doc "Query, key and value as tensors that fit the layer, the last two as it stores them."
  def tensors!(layer, query, key, value) do
    [query, key, value] = tensors = Enum.map([query, key, value], &Nx.to_tensor/1)

    {{batch, heads, _, features}, {_, _, _, value_features}} =
      {Stored.shape(layer.keys), Stored.shape(layer.values)}

    with {^batch, ^heads, positions, ^features} <- key.shape,
         {^batch, ^heads, ^positions, ^value_features} <- value.shape,
         {^batch, query_heads, ^positions, ^features} <- query.shape,
         0 <- rem(query_heads, heads) do
      {query, Stored.like(layer.keys, key), Stored.like(layer.values, value)}
    else
      _other ->
        raise ArgumentError,
              "expected a query of {#{batch}, a multiple of #{heads}, positions, #{features}}, a key of " <>
                "{#{batch}, #{heads}, positions, #{features}} and a value of " <>
                "{#{batch}, #{heads}, positions, #{value_features}}, got: " <>
                Enum.map_join(tensors, ", ", &inspect(&1.shape))
    end
  end

  @doc "Padding of each row as a tensor."
  def starts!(starts, cache) do
    {batch, _heads, _places, _features} = Stored.shape(elem(cache.layers, 0).keys)
    starts = if is_list(starts), do: Nx.tensor(starts), else: Nx.to_tensor(starts)

    if starts.shape != {batch} or not Nx.Type.integer?(starts.type) do
      raise ArgumentError,
            "expected padding of {#{batch}} integers, one for each row, got: " <>
              "#{Nx.Type.to_string(starts.type)} #{inspect(starts.shape)}"
    end

    if Enum.any?(Tuple.to_list(cache.layers), &match?(%Rotating{keep: keep} when keep > 0, &1)),
      do:
        raise(ArgumentError, "expected rotating layers that keep no first positions, for padding")

    Nx.as_type(starts, :s32)
  end

  @doc "The integer, from 0 on."
  def whole!(value, _what) when is_integer(value) and value >= 0, do: value
  def whole!(value, what), do: raise(ArgumentError, "expected #{what}, got: #{inspect(value)}")

  @doc "Raises where the layer does not have what was before its last `count` positions."
  def trims!(%Rotating{spare: spare} = layer, position, count) do
    case {known(position), known(count)} do
      {_held, count} when is_integer(count) and count <= spare ->
        :ok

      {held, _count} when is_integer(held) ->
        if held > Rotating.places(layer),
          do: refuse(spare, "#{held} positions in #{Rotating.places(layer)}")

      {nil, nil} when spare > 0 ->
        :ok

      _other ->
        refuse(spare, "positions that are known on the device only")
    end
  end

  def trims!(_layer, _position, _count), do: :ok

  defp known(number) when is_integer(number), do: number
  defp known(%{data: %Nx.Defn.Expr{}}), do: nil
  defp known(tensor), do: Nx.to_number(tensor)

  @spec refuse(non_neg_integer(), String.t()) :: no_return()
  defp refuse(spare, got) do
    raise ArgumentError,
          "expected to trim at most the #{spare} spare positions of a rotating layer, or one that has overwritten " <>
            "nothing, got: #{got}"
  end
end
