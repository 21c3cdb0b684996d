defmodule Emily.Generation.Cache.Window do
  @moduledoc false
  # Which positions a query sees. All layers of a kind make the same mask of the same tensors, and the compiler
  # computes it once for all of them.

  @enforce_keys [:position, :count, :starts, :width, :keep]
  defstruct [:position, :count, :starts, :width, :keep]

  @doc "For `count` queries from the cache's position on; each sees `width` positions up to itself, or all."
  def new(cache, count, width) do
    if not (width == nil or (is_integer(width) and width > 0)),
      do:
        raise(ArgumentError, "expected :window to be a positive integer, got: #{inspect(width)}")

    %__MODULE__{
      position: cache.position,
      count: count,
      starts: cache.starts,
      width: width,
      keep: 0
    }
  end

  @doc "No wider than `width`, but with the first `keep` positions, too."
  def limit(window, width, keep),
    do: %{window | width: min(window.width || width, width), keep: keep}

  @doc """
  Which of the positions in `held` each query sees: `{1 or batch, 1, count, held}`.

  Padding sees itself, because attention to nothing may be no number, and that spreads.
  """
  def mask(window, held) do
    query = Nx.add(window.position, Nx.iota({1, 1, window.count, 1}, type: :s32))
    held = Nx.reshape(held, {1, 1, 1, :auto})

    held
    |> Nx.less_equal(query)
    |> near(window, query, held)
    |> without_padding(window.starts, query, held)
  end

  defp near(mask, %{width: nil}, _query, _held), do: mask

  defp near(mask, %{width: width, keep: keep}, query, held) do
    near = Nx.greater(held, Nx.subtract(query, width))
    near = if keep == 0, do: near, else: Nx.logical_or(near, Nx.less(held, keep))
    Nx.logical_and(mask, near)
  end

  defp without_padding(mask, {}, _query, _held), do: mask

  defp without_padding(mask, starts, query, held) do
    mask
    |> Nx.logical_and(Nx.greater_equal(held, Nx.reshape(starts, {:auto, 1, 1, 1})))
    |> Nx.logical_or(Nx.equal(held, query))
  end
end
