defmodule Emily.Generation.Cache.Stored do
  @moduledoc false
  # Keys or values of some positions, `{batch, heads, positions, features}`: a tensor, or quantized along the
  # features. Layers say where positions are; how they are stored is said here.

  alias Emily.Fast

  @type t :: Nx.Tensor.t()

  @doc "Nothing yet, with places for so many positions."
  def new(opts, places, features),
    do: Nx.broadcast(Nx.tensor(0, type: opts.type), {opts.batch, opts.heads, places, features})

  @doc "The shape of the numbers."
  def shape(stored), do: Nx.shape(stored)

  @doc "How many positions there are places for."
  def places(stored), do: elem(shape(stored), 2)

  @doc "The numbers in the form in which they are stored."
  def like(stored, numbers), do: Nx.as_type(numbers, stored.type)

  @doc "With `part` in the places from `at` on."
  def put(stored, at, part),
    do: each([stored, part], fn [x, y] -> Nx.put_slice(x, [0, 0, at, 0], y) end)

  @doc "With other positions behind them."
  def join(stored, part), do: each([stored, part], &Nx.concatenate(&1, axis: 2))

  @doc "With those of `part` that `number` names in the places for which `replaced` holds."
  def replace(stored, replaced, part, number) do
    replaced = Nx.reshape(replaced, {1, 1, :auto, 1})

    each([stored, part], fn [x, y] ->
      replaced |> Nx.broadcast(x.shape) |> Nx.select(Nx.take(y, number, axis: 2), x)
    end)
  end

  @doc "With places for so many positions, of which there are fewer now."
  def longer(stored, places) do
    room = places - places(stored)

    each([stored], fn [x] ->
      Nx.pad(x, Nx.tensor(0, type: x.type), [{0, 0, 0}, {0, 0, 0}, {0, room, 0}, {0, 0, 0}])
    end)
  end

  @doc "Attention, as that of `Emily.Fast`."
  def attention(query, keys, values, opts),
    do: Fast.scaled_dot_product_attention(query, keys, values, opts)

  @doc "The first positions."
  def first(stored, count),
    do: each([stored], fn [x] -> Nx.slice_along_axis(x, 0, count, axis: 2) end)

  @doc "Its tensors, each with the end of its name in a file."
  def tensors(stored), do: [{"", stored}]

  @doc "What a file has to say of it beside the tensors."
  def about(_stored), do: %{}

  @doc "The tensors of a file that are called so, or `:error`."
  def read(tensors, name, _about) do
    case tensors do
      %{^name => %{type: {kind, _size}} = tensor} when kind in [:f, :bf] -> {:ok, tensor}
      _other -> :error
    end
  end

  defp each(tensors, fun), do: fun.(tensors)
end
