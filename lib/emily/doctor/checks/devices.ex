defmodule Emily.Doctor.Checks.Devices do
  @moduledoc "Which MLX was loaded, and whether it has the devices that its variant is for."
  @behaviour Emily.Doctor.Check

  alias Emily.Doctor.{Environment, Outcome}

  @impl true
  def run(environment, %{selection: selection}) do
    case environment.info.() do
      {:ok, %{mlx: mlx, devices: devices}} ->
        case selection.devices -- Enum.map(devices, &Atom.to_string/1) do
          [] ->
            Outcome.ok("MLX #{mlx} on #{Enum.join(devices, " and ")}", facts: %{devices: devices})

          absent ->
            Outcome.warning(
              "MLX #{mlx} on #{Enum.join(devices, " and ")}, but not on " <>
                "#{Enum.join(absent, " and ")}, which the variant " <>
                "#{selection.artifact.variant} is for",
              remedy(environment.host),
              facts: %{devices: devices}
            )
        end

      {:error, reason} ->
        Outcome.error("the library does not answer", Environment.last_resort(environment),
          details: [{"reason", reason}]
        )
    end
  end

  # What says whether the system itself sees a GPU.
  defp remedy(%{os: "macos"}), do: "system_profiler SPDisplaysDataType"
  defp remedy(_host), do: "nvidia-smi"
end
