defmodule Emily.Doctor.Checks.Load do
  @moduledoc "Whether the VM can load the native library."
  @behaviour Emily.Doctor.Check

  alias Emily.Doctor.{Environment, Outcome}

  @impl true
  def run(environment, %{selection: %{artifact: artifact}}) do
    case environment.load.() do
      :ok ->
        Outcome.ok("#{artifact.library} is loaded")

      {:error, reason} ->
        Outcome.error("#{artifact.library} does not load", Environment.last_resort(environment),
          details: [{"reason", reason}]
        )
    end
  end
end
