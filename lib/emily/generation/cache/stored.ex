defmodule Emily.Generation.Cache.Stored do
  @moduledoc false
  # Keys or values of some positions, `{batch, heads, positions, features}`: a tensor, or quantized along the
  # features. Layers say where positions are; how they are stored is said here.

  alias Emily.{Fast, Quantization, QuantizedWeight}
  alias Emily.Generation.Cache.QuantizedAttention

  @type t :: Nx.Tensor.t() | QuantizedWeight.t()

  # From that many positions on, products with quantized numbers take longer than to dequantize them once.
  @many 16

  @doc "Nothing yet, with places for so many positions."
  def new(%{bits: nil} = opts, places, features), do: zeros(opts, places, features, opts.type)

  def new(%{bits: bits, group_size: group_size} = opts, places, features) do
    packed = zeros(opts, places, div(features * bits, 32), :u32)
    # Two tensors, each of which is written in place.
    [scales, biases] =
      for _part <- 1..2, do: zeros(opts, places, div(features, group_size), opts.type)

    QuantizedWeight.new(packed, scales, biases, bits: bits, group_size: group_size)
  end

  defp zeros(opts, places, features, type),
    do: Nx.broadcast(Nx.tensor(0, type: type), {opts.batch, opts.heads, places, features})

  @doc "The shape of the numbers."
  def shape(%QuantizedWeight{} = stored), do: QuantizedWeight.shape(stored)
  def shape(stored), do: Nx.shape(stored)

  @doc "How many positions there are places for."
  def places(stored), do: elem(shape(stored), 2)

  @doc "The numbers in the form in which they are stored."
  def like(%QuantizedWeight{bits: bits, group_size: group_size} = stored, numbers) do
    numbers
    |> Nx.as_type(QuantizedWeight.type(stored))
    |> Quantization.quantize(bits: bits, group_size: group_size)
  end

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

  @doc "The first positions."
  def first(stored, count),
    do: each([stored], fn [x] -> Nx.slice_along_axis(x, 0, count, axis: 2) end)

  @doc "Attention, as that of `Emily.Fast`."
  def attention(query, %QuantizedWeight{} = keys, %QuantizedWeight{} = values, opts) do
    if Nx.axis_size(query, 2) < @many,
      do: QuantizedAttention.apply(query, keys, values, opts),
      else: attention(query, Quantization.dequantize(keys), Quantization.dequantize(values), opts)
  end

  def attention(query, keys, values, opts),
    do: Fast.scaled_dot_product_attention(query, keys, values, opts)

  @parts [:packed, :scales, :biases]

  @doc "Its tensors, each with the end of its name in a file."
  def tensors(%QuantizedWeight{} = stored),
    do: for(part <- @parts, do: {".#{part}", Map.fetch!(stored, part)})

  def tensors(stored), do: [{"", stored}]

  @doc "What a file has to say of it beside the tensors."
  def about(%QuantizedWeight{bits: bits, group_size: group_size}),
    do: %{bits: bits, group_size: group_size}

  def about(_stored), do: %{}

  @doc "The tensors of a file that are called so, or `:error`."
  def read(tensors, name, %{"bits" => bits, "group_size" => group_size}) do
    [packed, scales, biases] = for part <- @parts, do: Map.fetch!(tensors, "#{name}.#{part}")
    {:ok, QuantizedWeight.new(packed, scales, biases, bits: bits, group_size: group_size)}
  rescue
    _not_there_or_not_fitting in [KeyError, ArgumentError] -> :error
  end

  def read(tensors, name, _about) do
    case tensors do
      %{^name => %{type: {kind, _size}} = tensor} when kind in [:f, :bf] -> {:ok, tensor}
      _other -> :error
    end
  end

  # The function of all parts, which for quantized numbers lie alike.
  defp each([%QuantizedWeight{} = first | _others] = all, fun) do
    for part <- @parts, reduce: first do
      stored -> Map.put(stored, part, fun.(Enum.map(all, &Map.fetch!(&1, part))))
    end
  end

  defp each(tensors, fun), do: fun.(tensors)
end
