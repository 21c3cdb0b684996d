defmodule Emily.Generation.Cache.Archive do
  @moduledoc false
  # A cache as a safetensors file. Beside the tensors, `cache` has what they are, as JSON in bytes. Of growing
  # layers only what is held is written.

  alias Emily.Generation.Cache
  alias Emily.Generation.Cache.{Growing, Rotating, Stored}
  alias Emily.Safetensors

  @format 1
  @parts [:keys, :values]

  @doc "Writes the cache."
  def write(cache, path) do
    held = Nx.to_number(cache.position)
    layers = cache.layers |> Tuple.to_list() |> Enum.with_index()

    tensors =
      for {layer, number} <- layers,
          {name, tensor} <- tensors(written(layer, held)),
          into: %{},
          do: {"layers.#{number}.#{name}", tensor}

    about = %{
      format: @format,
      position: held,
      step: cache.step,
      layers: for({layer, _number} <- layers, do: about(layer))
    }

    bytes = Nx.from_binary(JSON.encode!(about), :u8)
    starts = if cache.starts == {}, do: %{}, else: %{"starts" => cache.starts}
    tensors |> Map.put("cache", bytes) |> Map.merge(starts) |> Safetensors.save(path)
  end

  # What nobody will look at need not be kept; an empty tensor would be none.
  defp written(%Growing{} = layer, held) do
    held = held |> max(1) |> min(Growing.capacity(layer))
    %{layer | keys: Stored.first(layer.keys, held), values: Stored.first(layer.values, held)}
  end

  defp written(layer, _held), do: layer

  defp tensors(layer) do
    for part <- @parts,
        {name, tensor} <- Stored.tensors(Map.fetch!(layer, part)),
        do: {"#{part}#{name}", tensor}
  end

  defp about(%Growing{} = layer), do: Map.merge(%{kind: "growing"}, Stored.about(layer.keys))

  defp about(%Rotating{} = layer) do
    Map.merge(%{kind: "rotating", keep: layer.keep, spare: layer.spare}, Stored.about(layer.keys))
  end

  @doc "Reads a cache."
  def read(path, opts) do
    tensors = Safetensors.load(path, opts)

    with %{"cache" => %{type: {:u, 8}} = bytes} <- tensors,
         {:ok, about} <- JSON.decode(Nx.to_binary(bytes)),
         %{"format" => @format, "position" => held, "step" => step, "layers" => [_ | _] = layers} <-
           about,
         true <- held in 0..0x7FFFFFFF and is_integer(step) and step > 0,
         {:ok, layers} <- layers(layers, tensors, held, step),
         {:ok, starts} <- starts(tensors, layers) do
      %Cache{
        layers: List.to_tuple(layers),
        position: Nx.tensor(held, type: :s32),
        starts: starts,
        step: step
      }
    else
      _other ->
        raise ArgumentError,
              "#{path}: expected a cache that save/2 has written, got: another file, or a damaged one"
    end
  end

  defp layers(abouts, tensors, held, step) do
    abouts
    |> Enum.with_index()
    |> Enum.reduce_while({:ok, []}, fn {about, number}, {:ok, layers} ->
      with {:ok, keys} <- stored(tensors, "layers.#{number}.keys", about),
           {:ok, values} <- stored(tensors, "layers.#{number}.values", about),
           {:ok, layer} <- layer(about, keys, values, held, step),
           true <- Enum.all?([layer | layers], &alike?(&1, layer)) do
        {:cont, {:ok, layers ++ [layer]}}
      else
        _other -> {:halt, :error}
      end
    end)
  end

  defp stored(tensors, name, about) do
    with {:ok, stored} <- Stored.read(tensors, name, about),
         {_batch, _heads, _places, _features} <- Stored.shape(stored),
         do: {:ok, stored}
  end

  defp layer(%{"kind" => "growing"}, keys, values, held, step) do
    layer = %Growing{keys: keys, values: values}

    if Stored.places(keys) == max(held, 1) and Stored.places(values) == max(held, 1),
      do: {:ok, Growing.grow(layer, Growing.rounded(held, step))},
      else: :error
  end

  defp layer(
         %{"kind" => "rotating", "keep" => keep, "spare" => spare},
         keys,
         values,
         _held,
         _step
       )
       when is_integer(keep) and is_integer(spare) and keep >= 0 and spare >= 0 do
    places = Stored.places(keys)

    if places > keep + spare and Stored.places(values) == places,
      do: {:ok, %Rotating{keys: keys, values: values, keep: keep, spare: spare}},
      else: :error
  end

  defp layer(_about, _keys, _values, _held, _step), do: :error

  # Rows and heads, which the values have as the keys do.
  defp alike?(one, other) do
    [one.keys, one.values, other.keys, other.values]
    |> Enum.map(&Tuple.to_list(Stored.shape(&1)))
    |> Enum.uniq_by(&Enum.take(&1, 2))
    |> length() == 1
  end

  defp starts(%{"starts" => starts}, [layer | _others]) do
    {batch, _heads, _places, _features} = Stored.shape(layer.keys)
    if starts.shape == {batch} and starts.type == {:s, 32}, do: {:ok, starts}, else: :error
  end

  defp starts(_none, _layers), do: {:ok, {}}
end
