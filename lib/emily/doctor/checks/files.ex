defmodule Emily.Doctor.Checks.Files do
  @moduledoc """
  Whether the files in `priv/` are, byte for byte, the ones that their manifest lists, and the
  manifest is the one of the chosen variant.

  A checkout has no manifest: its library is built there from source.
  """
  @behaviour Emily.Doctor.Check

  alias Emily.Artifact.{Manifest, Priv}
  alias Emily.Doctor.{Environment, Outcome}

  @impl true
  def run(environment, %{selection: %{artifact: artifact}}) do
    if Environment.built_here?(environment),
      do: built(environment, artifact),
      else: installed(environment, artifact)
  end

  defp built(environment, artifact) do
    if File.regular?(Path.join(environment.priv, artifact.library)) do
      Outcome.ok("built here from source", facts: %{origin: :source})
    else
      Outcome.error("#{artifact.library} is not built", environment.reinstall,
        details: [{"path", environment.priv}]
      )
    end
  end

  defp installed(environment, artifact) do
    interrupted = Priv.interrupted(environment.priv)

    if interrupted.decided do
      Outcome.error("an install was interrupted, and waits to be finished", environment.reinstall,
        details: [{"path", environment.priv}]
      )
    else
      environment |> whole(artifact) |> mention(interrupted.folders)
    end
  end

  # It does no harm but takes room, also in a release.
  defp mention(outcome, folders) do
    details =
      for folder <- folders, do: {"interrupted", "#{folder}, which the next install removes"}

    %{outcome | details: outcome.details ++ details}
  end

  defp whole(environment, artifact) do
    with {:ok, manifest} <- Manifest.read(environment.priv),
         :ok <- Manifest.check(manifest, artifact) do
      compare(manifest, environment)
    else
      {:error, error} -> refuse(error, environment)
    end
  end

  defp compare(manifest, environment) do
    case Manifest.mismatches(manifest, environment.priv, :sha256) do
      [] ->
        count = length(manifest.files)

        Outcome.ok("#{count} #{noun(count)} of #{manifest.version}, as released",
          facts: %{origin: :release, manifest: manifest}
        )

      mismatches ->
        count = length(mismatches)

        Outcome.error(
          "not as released: #{count} of #{length(manifest.files)} files in priv/",
          environment.reinstall,
          details: [{"path", environment.priv} | Enum.map(mismatches, &detail/1)]
        )
    end
  end

  defp noun(1), do: "file"
  defp noun(_count), do: "files"

  defp detail({name, :missing}), do: {name, "missing"}

  defp detail({name, {:size, expected, actual}}),
    do: {name, "expected #{expected} bytes, got: #{actual}"}

  defp detail({name, {:sha256, expected, actual}}),
    do: {name, "expected sha256 #{expected}\ngot: #{actual}"}

  defp refuse(%File.Error{reason: :enoent}, environment) do
    Outcome.error("nothing is installed", environment.reinstall,
      details: [{"path", environment.priv}]
    )
  end

  defp refuse(%File.Error{} = error, environment) do
    Outcome.error("manifest.json cannot be read", environment.reinstall,
      details: [{"path", error.path}, {"reason", "#{:file.format_error(error.reason)}"}]
    )
  end

  defp refuse(error, environment) do
    Outcome.error("manifest.json is not the one of the chosen variant", environment.reinstall,
      details: [
        {"path", Path.join(environment.priv, Manifest.name())}
        | for(
            {label, value} <- [
              {"field", error.field},
              {"expected", error.expected},
              {"actual", error.actual}
            ],
            value,
            do: {label, value}
          )
      ]
    )
  end
end
