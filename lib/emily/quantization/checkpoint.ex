defmodule Emily.Quantization.Checkpoint do
  @moduledoc false
  # MLX's quantized checkpoints: NAME.weight of u32 beside NAME.scales and, if affine, NAME.biases. How the numbers
  # are packed is said elsewhere, and shapes are held against that before anything is read.

  alias Emily.Quantization.{Scheme, Settings}
  alias Emily.{QuantizedWeight, Safetensors}

  @scheme [:mode, :bits, :group_size]

  @doc "As `Emily.Quantization.load/2`."
  @spec load(Path.t(), keyword()) :: %{String.t() => Nx.Tensor.t() | QuantizedWeight.t()}
  def load(path, opts) do
    opts = Keyword.validate!(opts, @scheme ++ [:device, :only, :progress, type: {:bf, 16}])
    opened = Safetensors.open(path)
    checkpoint = %{path: path, opened: opened, names: MapSet.new(Safetensors.names(opened))}
    parts = parts(checkpoint)
    chosen = chosen(checkpoint, parts, opts[:only])
    {quantized, plain} = Enum.split_with(chosen, &is_map_key(parts, &1))

    settings =
      if quantized != [] or lonely(checkpoint, plain) != [],
        do: Settings.read(path, Keyword.take(opts, @scheme))

    for name <- lonely(checkpoint, plain), do: alone!(checkpoint, settings, name)
    weights = for name <- quantized, do: {name, parts[name], scheme!(checkpoint, settings, name)}

    # What does not go together is refused before the first byte is read.
    for {name, parts, scheme} <- weights,
        do: weight(path, name, Enum.map(parts, &Safetensors.template(opened, &1)), scheme, opts)

    wanted = plain ++ Enum.flat_map(quantized, &parts[&1])
    read = Keyword.take(opts, [:device, :progress])
    tensors = Safetensors.load(path, [only: wanted] ++ read)

    for {name, parts, scheme} <- weights, into: Map.take(tensors, plain) do
      {name, weight(path, name, Enum.map(parts, &Map.fetch!(tensors, &1)), scheme, opts)}
    end
  end

  # For each quantized matrix the two or three tensors that it is, itself first.
  defp parts(%{names: names} = checkpoint) do
    for name <- names,
        layer = layer(name),
        "#{layer}.scales" in names and packed?(checkpoint, name),
        into: %{} do
      shared = for part <- ["#{layer}.scales", "#{layer}.biases"], part in names, do: part
      {name, [name | shared]}
    end
  end

  defp layer(name) do
    case String.split_at(name, -byte_size(".weight")) do
      {layer, ".weight"} -> layer
      _other -> nil
    end
  end

  defp packed?(%{opened: opened}, name), do: Safetensors.template(opened, name).type == {:u, 32}

  # What is like a packed matrix but for its scales.
  defp lonely(checkpoint, plain),
    do: for(name <- plain, layer(name), packed?(checkpoint, name), do: name)

  defp alone!(%{path: path}, settings, name) do
    layer = layer(name)

    if Settings.scheme(settings, layer),
      do: refuse(path, name, "#{layer}.scales beside it, as #{settings.source} says", "none")
  end

  # Scales and biases come with their matrix, and are nothing by themselves.
  defp chosen(%{names: names, path: path}, parts, only) do
    owners = for {name, [_weight | shared]} <- parts, part <- shared, into: %{}, do: {part, name}
    whole = fn -> names |> MapSet.reject(&is_map_key(owners, &1)) |> Enum.sort() end

    cond do
      only == nil ->
        whole.()

      is_function(only, 1) ->
        Enum.filter(whole.(), only)

      is_list(only) ->
        for name <- only,
            owner = owners[name],
            do: refuse(path, name, "a name of :only that is whole", "a part of #{owner}")

        for name <- Enum.uniq(only),
            name not in names,
            do:
              raise(
                ArgumentError,
                "#{path}: expected a tensor #{inspect(name)}, got: none of that name"
              )

        Enum.uniq(only)

      true ->
        raise ArgumentError,
              "expected :only to be a list of names, or a function of one, got: #{inspect(only)}"
    end
  end

  defp scheme!(%{path: path, names: names}, settings, name) do
    layer = layer(name)

    case Settings.scheme(settings, layer) do
      nil ->
        refuse(path, name, Settings.wanted(settings), "scales beside it, and no settings")

      %Scheme{mode: :affine} = scheme ->
        if "#{layer}.biases" not in names,
          do: refuse(path, name, "#{layer}.biases beside it, as it is affine", "none")

        scheme

      scheme ->
        scheme
    end
  end

  defp weight(path, name, [packed, scales | biases], scheme, opts) do
    attributes = Scheme.attributes(scheme) ++ [type: opts[:type]]
    QuantizedWeight.new(packed, scales, List.first(biases), attributes)
  rescue
    error in ArgumentError ->
      reraise ArgumentError, "#{path}: #{name}: #{error.message}", __STACKTRACE__
  end

  @spec refuse(Path.t(), String.t(), String.t(), String.t()) :: no_return()
  defp refuse(path, name, expected, got),
    do: raise(ArgumentError, "#{path}: #{name}: expected #{expected}, got: #{got}")
end
