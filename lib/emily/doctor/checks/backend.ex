defmodule Emily.Doctor.Checks.Backend do
  @moduledoc "Whether what is asked of the backend is computed by it, and leaves it nowhere."
  @behaviour Emily.Doctor.Check

  alias Emily.Doctor.{Environment, Outcome}

  @impl true
  def run(environment, _facts) do
    case environment.backend.() do
      :absent ->
        Outcome.skipped("this build is without Nx (EMILY_BARE)")

      {:ok, names, []} ->
        Outcome.ok("#{length(names)} of #{length(names)} operations")

      {:ok, names, problems} ->
        Outcome.error(
          "#{length(names) - length(problems)} of #{length(names)} operations",
          Environment.last_resort(environment),
          details: problems
        )
    end
  end
end
