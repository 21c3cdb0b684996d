defmodule Emily.Doctor.Checks.Smoke do
  @moduledoc "Whether each device computes what it should: a small real computation, checked."
  @behaviour Emily.Doctor.Check

  alias Emily.Doctor.{Environment, Outcome}

  @impl true
  def run(environment, %{devices: %{devices: devices}}) do
    wrong =
      for device <- devices, reason = problem(environment, device), do: {"#{device}", reason}

    case wrong do
      [] ->
        Outcome.ok("right on #{Enum.map_join(devices, " and ", &Atom.to_string/1)}")

      wrong ->
        Outcome.error(
          "wrong on #{Enum.map_join(wrong, " and ", &elem(&1, 0))}",
          Environment.last_resort(environment),
          details: wrong
        )
    end
  end

  defp problem(environment, device) do
    case environment.smoke.(device) do
      {:ok, {value, value}} -> nil
      {:ok, {expected, actual}} -> "expected #{inspect(expected)}, got: #{inspect(actual)}"
      {:error, reason} -> reason
    end
  end
end
