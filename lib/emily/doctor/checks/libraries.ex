defmodule Emily.Doctor.Checks.Libraries do
  @moduledoc """
  Whether the system has every shared library that the installed files ask it for, and, for NVIDIA's
  GPUs, the headers that MLX compiles kernels with.
  """
  @behaviour Emily.Doctor.Check

  alias Emily.Artifact.{Cuda, Host}
  alias Emily.Doctor.Outcome

  # The packages of Debian and Ubuntu.
  @packages %{
    "libgcc_s.so.1" => "libgcc-s1",
    "libstdc++.so.6" => "libstdc++6"
  }

  @driver Cuda.driver()

  @impl true
  def run(_environment, %{files: %{origin: :source}}) do
    Outcome.ok("built here from source, with this machine's")
  end

  def run(%{host: host}, %{files: %{manifest: manifest}}) do
    needed = manifest.requires.libraries
    missing = Enum.reject(needed, &Host.library(host, &1))
    headers = headers(host, manifest.variant)

    case {missing, headers} do
      {[], []} when needed == [] ->
        Outcome.ok("all of them come with the system")

      {[], []} ->
        Outcome.ok("#{length(needed)} of #{length(needed)} found")

      {[], headers} ->
        Outcome.warning(
          "headers not found: #{Enum.join(headers, ", ")}, so MLX does not compile some kernels",
          next(headers, manifest.variant),
          details: details(headers, manifest.variant)
        )

      {missing, headers} ->
        Outcome.error(
          "not found: #{Enum.join(missing ++ headers, ", ")}",
          next(missing ++ headers, manifest.variant),
          details: details(missing ++ headers, manifest.variant)
        )
    end
  end

  defp headers(host, variant) do
    if Cuda.needs(variant), do: elem(Cuda.headers(variant, host.cuda_paths), 1), else: []
  end

  # One line for each, with the packages that have it.
  defp details(missing, variant) do
    for name <- missing, packages = Cuda.packages(variant, name), do: {name, packages}
  end

  defp next(missing, variant) do
    packages = Enum.map(missing, &@packages[&1])
    pip = for need <- cuda(variant), need.name in missing, uniq: true, do: need.pip

    cond do
      Enum.all?(packages) ->
        "sudo apt-get install #{Enum.join(packages, " ")}"

      @driver in missing ->
        "install the NVIDIA driver, which brings #{@driver}"

      pip != [] ->
        "pip install #{Enum.join(pip, " ")}, and name the folder nvidia that they are in with " <>
          "`config :emily, cuda_path: …`"

      true ->
        "install what provides #{hd(missing)}, and name its folder in LD_LIBRARY_PATH"
    end
  end

  defp cuda(variant) do
    case Cuda.needs(variant) do
      nil -> []
      needs -> needs.libraries ++ needs.headers
    end
  end
end
