defmodule Emily.Doctor do
  @moduledoc """
  Looks at everything that Emily needs of a machine and says what is wrong and what to do.

  `mix emily.doctor` is its front. The checks are one table, run in its order, and each one only
  if all that it needs has passed: a library that is damaged is not loaded, a device that is not
  there is not asked to compute.

      report = Emily.Doctor.run()
      Emily.Doctor.Report.status(report)
      #=> :ok
      IO.puts(Emily.Doctor.Text.render(report))
  """

  alias Emily.Doctor.{Check, Checks, Environment, Outcome, Report}

  @checks [
    %Check{id: :runtime, title: "Elixir and OTP", module: Checks.Runtime},
    %Check{id: :selection, title: "Variant and target", module: Checks.Selection},
    %Check{id: :cache, title: "Download cache", module: Checks.Cache},
    %Check{id: :files, title: "Installed files", module: Checks.Files, needs: [:selection]},
    %Check{
      id: :signature,
      title: "Signature",
      module: Checks.Signature,
      needs: [:selection, :cache]
    },
    %Check{id: :floors, title: "System versions", module: Checks.Floors, needs: [:files]},
    %Check{id: :libraries, title: "Shared libraries", module: Checks.Libraries, needs: [:files]},
    %Check{
      id: :load,
      title: "Native library",
      module: Checks.Load,
      needs: [:runtime, :selection, :files, :floors, :libraries]
    },
    %Check{id: :devices, title: "MLX", module: Checks.Devices, needs: [:selection, :load]},
    %Check{id: :smoke, title: "Computation", module: Checks.Smoke, needs: [:devices]},
    %Check{
      id: :backend,
      title: "Nx work stays on Emily",
      module: Checks.Backend,
      needs: [:smoke]
    },
    %Check{id: :blas, title: "BLAS", module: Checks.Blas, needs: [:files, :smoke]},
    %Check{id: :fusion, title: "Fusion", module: Checks.Fusion}
  ]

  @doc "The table of checks, in the order in which they run."
  @spec checks() :: [Check.t()]
  def checks, do: @checks

  @doc """
  Runs checks on a machine: all of them on this one, unless told otherwise.
  """
  @spec run(Environment.t(), [Check.t()]) :: Report.t()
  def run(environment \\ Environment.host(), checks \\ @checks) do
    {entries, _outcomes} =
      Enum.map_reduce(checks, %{}, fn check, outcomes ->
        outcome = outcome(check, environment, outcomes)
        {{check, outcome}, Map.put(outcomes, check.id, {check, outcome})}
      end)

    %Report{version: environment.version, entries: entries}
  end

  defp outcome(check, environment, outcomes) do
    needed = Enum.map(check.needs, &Map.fetch!(outcomes, &1))

    case Enum.reject(needed, fn {_check, outcome} -> Outcome.passed?(outcome) end) do
      [] -> answer(check, environment, facts(needed))
      failed -> Outcome.skipped("needs " <> Enum.map_join(failed, ", ", &title/1))
    end
  end

  defp facts(needed), do: Map.new(needed, fn {check, outcome} -> {check.id, outcome.facts} end)

  defp title({check, _outcome}), do: check.title

  # A doctor that falls over at what it came to look at helps nobody: what a check did not
  # foresee becomes its outcome, and the others still run.
  defp answer(check, environment, facts) do
    check.module.run(environment, facts)
  catch
    kind, reason ->
      Outcome.error(
        "the check itself failed",
        Environment.report(),
        details: [{"reason", Exception.format_banner(kind, reason, __STACKTRACE__)}]
      )
  end
end
