defmodule Emily.Generation.Cache.Growing do
  @moduledoc false
  # All positions of a layer, `{batch, heads, capacity, features}`: position `n` is at `n`. What lies beyond
  # those held is hidden by being later than any query.

  alias Emily.Fast
  alias Emily.Generation.Cache.Window

  @derive {Nx.Container, containers: [:keys, :values]}
  @enforce_keys [:keys, :values]
  defstruct [:keys, :values]

  @doc "An empty layer."
  def new(opts, capacity) do
    %__MODULE__{
      keys: zeros(opts, capacity, opts.head_size),
      values: zeros(opts, capacity, opts.value_size)
    }
  end

  @doc "Zeros of the layer's form."
  def zeros(opts, capacity, features) do
    Nx.broadcast(Nx.tensor(0, type: opts.type), {opts.batch, opts.heads, capacity, features})
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
  def capacity(layer), do: Nx.axis_size(layer.keys, 2)

  @doc "The layer with room for `capacity` positions."
  def grow(layer, capacity),
    do: %{layer | keys: longer(layer.keys, capacity), values: longer(layer.values, capacity)}

  @doc "The tensor with zeros at the end of its third axis, up to `capacity`."
  def longer(tensor, capacity) do
    room = capacity - Nx.axis_size(tensor, 2)

    Nx.pad(tensor, Nx.tensor(0, type: tensor.type), [
      {0, 0, 0},
      {0, 0, 0},
      {0, room, 0},
      {0, 0, 0}
    ])
  end

  @doc "Stores and attends."
  def attend(layer, query, key, value, window, opts) do
    layer = %{
      layer
      | keys: put(layer.keys, window.position, key),
        values: put(layer.values, window.position, value)
    }

    mask = Window.mask(window, Nx.iota({capacity(layer)}, type: :s32))
    opts = [mask: mask] ++ opts
    {Fast.scaled_dot_product_attention(query, layer.keys, layer.values, opts), layer}
  end

  @doc "The tensor with `part` from `position` on."
  def put(tensor, position, part),
    do: Nx.put_slice(tensor, [0, 0, position, 0], Nx.as_type(part, tensor.type))
end
