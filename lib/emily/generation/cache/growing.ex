defmodule Emily.Generation.Cache.Growing do
  @moduledoc false
  # All positions of a layer, `{batch, heads, capacity, features}`: position `n` is at `n`. What lies beyond
  # those held is hidden by being later than any query.

  alias Emily.Generation.Cache.{Stored, Window}

  @derive {Nx.Container, containers: [:keys, :values]}
  @enforce_keys [:keys, :values]
  defstruct [:keys, :values]

  @doc "An empty layer."
  def new(opts, capacity) do
    %__MODULE__{
      keys: Stored.new(opts, capacity, opts.head_size),
      values: Stored.new(opts, capacity, opts.value_size)
    }
  end

  @doc "The least capacity for `needed` positions."
  def rounded(needed, step) do
    steps = max(1, ceil_div(needed, step))
    unit = unit(steps - 1)
    ceil_div(steps, unit) * unit * step
  end

  # A quarter of the greatest power of two in it, at least 1.
  defp unit(steps) when steps < 8, do: 1
  defp unit(steps), do: 2 * unit(div(steps, 2))

  defp ceil_div(number, by), do: div(number + by - 1, by)

  @doc "How many positions there is room for."
  def capacity(layer), do: Stored.places(layer.keys)

  @doc "The layer with room for `capacity` positions."
  def grow(layer, capacity) do
    %{
      layer
      | keys: Stored.longer(layer.keys, capacity),
        values: Stored.longer(layer.values, capacity)
    }
  end

  @doc "Stores and attends."
  def attend(layer, query, key, value, window, opts) do
    layer = %{
      layer
      | keys: Stored.put(layer.keys, window.position, key),
        values: Stored.put(layer.values, window.position, value)
    }

    mask = Window.mask(window, Nx.iota({capacity(layer)}, type: :s32))
    {Stored.attention(query, layer.keys, layer.values, [mask: mask] ++ opts), layer}
  end
end
