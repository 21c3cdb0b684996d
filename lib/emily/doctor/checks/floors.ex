defmodule Emily.Doctor.Checks.Floors do
  @moduledoc """
  Whether the machine is new enough for the installed binaries: the C library, the C++ library,
  macOS and the VM's NIF version, as their manifest measured them.
  """
  @behaviour Emily.Doctor.Check

  alias Emily.Artifact.Manifest
  alias Emily.Doctor.Outcome

  @names [glibc: "glibc", glibcxx: "GLIBCXX", macos: "macOS"]

  @impl true
  def run(_environment, %{files: %{origin: :source}}) do
    Outcome.ok("built here from source, for this machine")
  end

  def run(%{host: host} = environment, %{files: %{manifest: manifest}}) do
    # The shared libraries have a check of their own.
    floors = put_in(manifest.requires.libraries, [])

    case Manifest.problems(floors, host) do
      [] ->
        Outcome.ok(Enum.join(met(manifest, host), ", "))

      problems ->
        Outcome.error(
          "this machine is too old for the installed files",
          environment.build,
          details: Enum.map(problems, &{"needed", &1})
        )
    end
  end

  defp met(manifest, host) do
    floors =
      for {key, name} <- @names, floor = manifest.requires[key] do
        "#{name} #{Map.fetch!(host, key)} (needs #{floor})"
      end

    floors ++ ["NIF #{host.nif} (needs #{manifest.nif_version})"]
  end
end
