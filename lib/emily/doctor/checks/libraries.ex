defmodule Emily.Doctor.Checks.Libraries do
  @moduledoc "Whether the system has every shared library that the installed files ask it for."
  @behaviour Emily.Doctor.Check

  alias Emily.Artifact.Host
  alias Emily.Doctor.Outcome

  # The packages of Debian and Ubuntu; what CUDA brings has no one package.
  @packages %{
    "libgcc_s.so.1" => "libgcc-s1",
    "libstdc++.so.6" => "libstdc++6"
  }

  @impl true
  def run(_environment, %{files: %{origin: :source}}) do
    Outcome.ok("built here from source, with this machine's")
  end

  def run(environment, %{files: %{manifest: manifest}}) do
    needed = manifest.requires.libraries

    case Enum.reject(needed, &Host.library(environment.host, &1)) do
      [] ->
        Outcome.ok("#{length(needed)} of #{length(needed)} found")

      missing ->
        Outcome.error("not found: #{Enum.join(missing, ", ")}", next(missing))
    end
  end

  defp next(missing) do
    packages = Enum.map(missing, &@packages[&1])

    cond do
      Enum.all?(packages) ->
        "sudo apt-get install #{Enum.join(packages, " ")}"

      "libcuda.so.1" in missing ->
        "install the NVIDIA driver, which brings libcuda.so.1"

      true ->
        "install what provides #{hd(missing)}, and name its folder in LD_LIBRARY_PATH"
    end
  end
end
