defmodule Emily.Doctor.Checks.Selection do
  @moduledoc "Which variant and target this machine gets."
  @behaviour Emily.Doctor.Check

  alias Emily.Artifact.Targets
  alias Emily.Doctor.Outcome

  @mend "mend EMILY_VARIANT, or `config :emily, variant:`"

  @impl true
  def run(%{variant: {:error, reason}}, _facts) do
    Outcome.error(reason, @mend)
  end

  def run(%{variant: {:ok, wanted}, host: host} = environment, _facts) do
    case Targets.select(wanted, host.target) do
      {:ok, artifact} ->
        variant = Targets.variant!(artifact.variant)

        Outcome.ok("#{artifact.variant} for #{artifact.target}: #{variant["summary"]}",
          facts: %{artifact: artifact, devices: variant["devices"]}
        )

      {:error, %{target: nil}} ->
        Outcome.error(
          "no target is for #{host.os} on #{host.arch}",
          next(host, environment),
          details: [{"existing", Enum.join(Targets.names(), ", ")}]
        )

      {:error, %{target: target, variant: variant}} ->
        Outcome.error(
          "expected a variant for #{target} among #{Enum.join(Targets.variants(target), ", ")}, " <>
            "got: #{variant}",
          @mend
        )
    end
  end

  # On Apple's own processors, programs for Intel's run, and believe to be on one.
  defp next(%{os: "macos"}, environment) do
    "on a Mac with Apple silicon, install Erlang for arm64; else #{environment.build}"
  end

  defp next(_host, environment), do: environment.build
end
