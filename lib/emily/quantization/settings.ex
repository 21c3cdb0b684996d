defmodule Emily.Quantization.Settings do
  @moduledoc false
  # How the matrices of a checkpoint are packed: options that hold for all, or what mlx-lm writes into config.json,
  # with settings of a layer's own under the layer's name. There what is absent is what MLX takes for it.

  alias Emily.Quantization.Scheme

  @enforce_keys [:source, :default, :layers]
  defstruct [:source, :default, :layers]

  @type t :: %__MODULE__{
          source: String.t(),
          default: Scheme.t() | nil,
          layers: %{String.t() => Scheme.t() | nil}
        }

  @sections ["quantization", "quantization_config"]
  @modes %{"affine" => :affine, "mxfp4" => :mxfp4, "mxfp8" => :mxfp8, "nvfp4" => :nvfp4}

  @doc "The settings of the checkpoint at `path`; options are in place of its config.json."
  @spec read(Path.t(), keyword()) :: t()
  def read(_path, [_ | _] = opts),
    do: %__MODULE__{source: "the options", default: Scheme.new!(opts), layers: %{}}

  def read(path, []) do
    path = Path.expand(path)
    folder = if File.dir?(path), do: path, else: Path.dirname(path)
    config = Path.join(folder, "config.json")

    case File.read(config) do
      {:ok, text} -> text |> JSON.decode() |> config(config)
      {:error, :enoent} -> %__MODULE__{source: config, default: nil, layers: %{}}
      {:error, reason} -> refuse(config, "a file that can be read", :file.format_error(reason))
    end
  end

  @doc "How a layer is packed; nil if it is not, or nothing is known."
  @spec scheme(t(), String.t()) :: Scheme.t() | nil
  def scheme(%__MODULE__{} = settings, layer),
    do: Map.get(settings.layers, layer, settings.default)

  @doc "What a matrix whose layer has no scheme lacks."
  @spec wanted(t()) :: String.t()
  def wanted(%__MODULE__{source: source}),
    do:
      "#{inspect(hd(@sections))} settings for it in #{source}, or the options :mode, :bits and :group_size"

  defp config({:ok, %{} = config}, path) do
    case Enum.find(@sections, &(config[&1] != nil)) do
      nil -> %__MODULE__{source: path, default: nil, layers: %{}}
      section -> section(config[section], "#{path}: #{inspect(section)}", path)
    end
  end

  defp config({:ok, other}, path), do: refuse(path, "an object", inspect(other))
  defp config({:error, _reason}, path), do: refuse(path, "JSON", "something else")

  defp section(%{} = section, place, path) do
    for key <- ["group_size", "bits"],
        not is_map_key(section, key) and Map.get(section, "mode", "affine") == "affine",
        do: refuse(place, inspect(key), "none")

    default = scheme!(section, place)

    # Other keys name what a converter took down for itself, such as the method.
    layers =
      for {layer, own} <- section, is_map(own) or is_boolean(own), into: %{} do
        {layer, layer!(own, default, "#{place}: #{inspect(layer)}")}
      end

    %__MODULE__{source: path, default: default, layers: layers}
  end

  defp section(other, place, _path), do: refuse(place, "an object", inspect(other))

  defp layer!(true, default, _place), do: default
  defp layer!(false, _default, _place), do: nil
  defp layer!(own, _default, place), do: scheme!(own, place)

  defp scheme!(settings, place) do
    mode = Map.get(settings, "mode") || "affine"
    names = @modes |> Map.keys() |> Enum.sort() |> Enum.map_join(", ", &inspect/1)
    mode = @modes[mode] || refuse(place, "a mode of #{names}", inspect(mode))

    try do
      Scheme.new!(mode: mode, bits: settings["bits"], group_size: settings["group_size"])
    rescue
      error in ArgumentError ->
        reraise ArgumentError, "#{place}: #{error.message}", __STACKTRACE__
    end
  end

  @spec refuse(String.t(), String.t(), iodata()) :: no_return()
  defp refuse(place, expected, got),
    do: raise(ArgumentError, "#{place}: expected #{expected}, got: #{got}")
end
