defmodule Emily.Artifact.Targets do
  @moduledoc """
  The variants, targets, floors and addresses of `release/targets.json`, embedded when this
  module is compiled.

  Nothing else in the package names a variant or a floor.
  """

  alias Emily.Artifact
  alias Emily.Artifact.UnavailableError

  @path Path.expand("../../../release/targets.json", __DIR__)
  @external_resource @path

  @data @path |> File.read!() |> JSON.decode!()
  @version Mix.Project.config()[:version]

  @doc "The version of the package, which is also the version of the assets it installs."
  @spec version() :: String.t()
  def version, do: @version

  @doc "The project's home page."
  @spec home() :: String.t()
  def home, do: @data["home"]

  @doc "The most bytes that the files of one archive may take together."
  @spec max_unpacked_bytes() :: pos_integer()
  def max_unpacked_bytes, do: @data["max_unpacked_bytes"]

  @doc "The names of all targets."
  @spec names() :: [String.t()]
  def names, do: @data["targets"] |> Map.keys() |> Enum.sort()

  @doc "One target's entry."
  @spec fetch(String.t()) :: {:ok, map()} | :error
  def fetch(target), do: Map.fetch(@data["targets"], target)

  @doc "The target for an operating system and a processor, as the entries name them."
  @spec find(String.t(), String.t()) :: String.t() | nil
  def find(os, arch) do
    Enum.find_value(@data["targets"], fn {name, target} ->
      if target["os"] == os and target["arch"] == arch, do: name
    end)
  end

  @doc "The names of all variants, or of those that exist for a target."
  @spec variants() :: [String.t()]
  def variants, do: @data["variants"] |> Map.keys() |> Enum.sort()

  @spec variants(String.t()) :: [String.t()]
  def variants(target), do: for(name <- variants(), target in variant!(name)["targets"], do: name)

  @doc "One variant's entry."
  @spec variant!(String.t()) :: map()
  def variant!(name), do: Map.fetch!(@data["variants"], name)

  @doc "The highest requirements that a variant's releases may have, by name."
  @spec floors(String.t()) :: %{String.t() => String.t()}
  def floors(variant), do: variant!(variant)["floors"]

  @doc "The system libraries that a variant may expect on a target."
  @spec system_libraries(String.t(), String.t()) :: [String.t()]
  def system_libraries(variant, target) do
    @data["targets"][target]["system_libraries"] ++ variant!(variant)["system_libraries"]
  end

  @doc "Every name that any archive may contain."
  @spec all_files() :: [String.t()]
  def all_files do
    variants() |> Enum.flat_map(&variant!(&1)["files"]) |> Enum.uniq() |> Enum.sort()
  end

  @doc """
  The archive for a variant on a target; the target's default variant when none is asked for.
  """
  @spec select(String.t() | nil, String.t() | nil, String.t()) ::
          {:ok, Artifact.t()} | {:error, UnavailableError.t()}
  def select(variant, target, version \\ @version) do
    with {:ok, entry} <- fetch_target(target),
         variant = variant || entry["default_variant"],
         true <- variant in variants(target) do
      {:ok,
       %Artifact{
         version: version,
         variant: variant,
         target: target,
         asset: asset(version, variant, target),
         library: entry["library"],
         files: variant!(variant)["files"]
       }}
    else
      _missing -> {:error, %UnavailableError{variant: variant, target: target}}
    end
  end

  defp fetch_target(nil), do: :error
  defp fetch_target(target), do: fetch(target)

  @doc "The folder of a version's assets; ends with a slash."
  @spec base_url(Emily.Settings.t(), String.t()) :: String.t()
  def base_url(%Emily.Settings{release_url: url}, version) do
    String.trim_trailing(fill(url || @data["release_base"], %{"version" => version}), "/") <> "/"
  end

  @doc "How the names of all assets begin."
  @spec asset_prefix() :: String.t()
  def asset_prefix, do: @data["asset"] |> String.split("{version}") |> hd()

  @doc """
  The version in an asset's name, or nil if the name is of no variant and target that exist.

      iex> Emily.Artifact.Targets.version_of("emily-nif-0.8.0-rc.1-cpu-linux-x86_64.tar.gz")
      "0.8.0-rc.1"

      iex> Emily.Artifact.Targets.version_of("emily-nif-0.8.0-warp-linux-x86_64.tar.gz")
      nil
  """
  @spec version_of(String.t()) :: String.t() | nil
  def version_of(asset) do
    Enum.find_value(for(target <- names(), variant <- variants(target), do: {variant, target}), fn
      {variant, target} ->
        [start, rest] = String.split(asset("{version}", variant, target), "{version}")

        if String.starts_with?(asset, start) and String.ends_with?(asset, rest),
          do: asset |> String.replace_prefix(start, "") |> String.replace_suffix(rest, "")
    end)
  end

  defp asset(version, variant, target) do
    fill(@data["asset"], %{"version" => version, "variant" => variant, "target" => target})
  end

  defp fill(template, values) do
    Enum.reduce(values, template, fn {name, value}, text ->
      String.replace(text, "{#{name}}", value)
    end)
  end
end
