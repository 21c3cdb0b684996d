defmodule Emily.Generation.Cache.Rotating do
  @moduledoc false
  # The first `keep` positions of a layer, at their own places, and behind them a ring of the last ones: position
  # `n` is at `keep + (n - keep) mod ring`. Spare places make the ring longer than what positions attend to.

  alias Emily.Generation.Cache.{Stored, Window}

  @derive {Nx.Container, containers: [:keys, :values], keep: [:keep, :spare]}
  @enforce_keys [:keys, :values, :keep, :spare]
  defstruct [:keys, :values, :keep, :spare]

  # The position of an empty place: later than any query.
  @never 2_147_483_647

  @doc "An empty layer."
  def new(opts, {:rotating, window, keep, spare}) do
    %__MODULE__{
      keys: Stored.new(opts, window + spare, opts.head_size),
      values: Stored.new(opts, window + spare, opts.value_size),
      keep: keep,
      spare: spare
    }
  end

  @doc "There is always room."
  def capacity(_layer), do: :infinity

  @doc "It stays as it is."
  def grow(layer, _capacity), do: layer

  @doc "How many positions fit before the first is overwritten."
  def places(layer), do: Stored.places(layer.keys)

  @doc "Stores and attends."
  def attend(layer, query, key, value, window, opts) do
    window = Window.limit(window, places(layer) - layer.keep - layer.spare, layer.keep)

    if window.count == 1,
      do: one(layer, query, key, value, window, opts),
      else: several(layer, query, key, value, window, opts)
  end

  # What the new position replaces is out of its window, so it can be written first, in place.
  defp one(layer, query, key, value, window, opts) do
    at = place(layer, window.position)

    layer = %{
      layer
      | keys: Stored.put(layer.keys, at, key),
        values: Stored.put(layer.values, at, value)
    }

    mask = Window.mask(window, held(layer, Nx.add(window.position, 1)))
    {Stored.attention(query, layer.keys, layer.values, [mask: mask] ++ opts), layer}
  end

  # The first of the new positions attend to some that the last ones replace.
  defp several(layer, query, key, value, window, opts) do
    count = window.count
    new = Nx.add(window.position, Nx.iota({count}, type: :s32))
    mask = Window.mask(window, Nx.concatenate([held(layer, window.position), new]))
    keys = Stored.join(layer.keys, key)
    values = Stored.join(layer.values, value)
    out = Stored.attention(query, keys, values, [mask: mask] ++ opts)

    # Which of the new positions is in each place afterwards, if one is.
    number = Nx.subtract(held(layer, Nx.add(window.position, count)), window.position)
    replaced = Nx.logical_and(Nx.greater_equal(number, 0), Nx.less(number, count))
    number = Nx.clip(number, 0, count - 1)

    {out,
     %{
       layer
       | keys: Stored.replace(layer.keys, replaced, key, number),
         values: Stored.replace(layer.values, replaced, value, number)
     }}
  end

  defp ring(layer), do: places(layer) - layer.keep

  defp place(%{keep: 0} = layer, position), do: Nx.remainder(position, ring(layer))

  defp place(%{keep: keep} = layer, position) do
    behind = position |> Nx.subtract(keep) |> Nx.remainder(ring(layer)) |> Nx.add(keep)
    Nx.select(Nx.less(position, keep), position, behind)
  end

  @doc "The position that is in each place once there are `count`."
  def held(%{keep: keep} = layer, count) do
    place = Nx.iota({ring(layer)}, type: :s32)
    last = Nx.subtract(count, keep + 1)
    # How long before the last one; a remainder is negative where the number is.
    ago = last |> Nx.subtract(place) |> Nx.remainder(ring(layer))
    ago = Nx.select(Nx.less(ago, 0), Nx.add(ago, ring(layer)), ago)
    number = Nx.subtract(last, ago)
    ring = Nx.select(Nx.less(number, 0), @never, Nx.add(number, keep))
    if keep == 0, do: ring, else: Nx.concatenate([kept(keep, count), ring])
  end

  defp kept(keep, count) do
    place = Nx.iota({keep}, type: :s32)
    Nx.select(Nx.less(place, count), place, @never)
  end
end
