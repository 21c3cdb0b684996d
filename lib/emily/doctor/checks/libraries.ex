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

  @driver "libcuda.so.1"

  @impl true
  def run(_environment, %{files: %{origin: :source}}) do
    Outcome.ok("built here from source, with this machine's")
  end

  def run(%{host: host}, %{files: %{manifest: manifest}}) do
    needed = manifest.requires.libraries
    needs = Cuda.needs(manifest.variant)
    missing = Enum.reject(needed, &Host.library(host, &1)) ++ headers(host, manifest, needs)

    if missing == [] do
      Outcome.ok("#{length(needed)} of #{length(needed)} found")
    else
      Outcome.error("not found: #{Enum.join(missing, ", ")}", next(missing, needs),
        details: details(missing, manifest.variant)
      )
    end
  end

  defp headers(_host, _manifest, nil), do: []

  defp headers(host, manifest, needs) do
    if Cuda.headers(manifest.variant, host.cuda_paths), do: [], else: [needs.headers.name]
  end

  # One line for each, with the packages that have it.
  defp details(missing, variant) do
    for name <- missing, packages = Cuda.packages(variant, name), do: {name, packages}
  end

  defp need(name, needs), do: Enum.find([needs.headers | needs.libraries], &(&1.name == name))

  defp next(missing, needs) do
    packages = Enum.map(missing, &@packages[&1])
    cuda = if needs, do: missing |> Enum.map(&need(&1, needs)) |> Enum.reject(&is_nil/1), else: []

    cond do
      Enum.all?(packages) ->
        "sudo apt-get install #{Enum.join(packages, " ")}"

      @driver in missing ->
        "install the NVIDIA driver, which brings #{@driver}"

      cuda != [] ->
        "pip install #{cuda |> Enum.map(& &1.pip) |> Enum.uniq() |> Enum.join(" ")}, and name " <>
          "the folder nvidia that they are in with `config :emily, cuda_path: …`"

      true ->
        "install what provides #{hd(missing)}, and name its folder in LD_LIBRARY_PATH"
    end
  end
end
