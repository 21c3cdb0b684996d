Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.DevicesTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Devices, Machine, Outcome}

  @moduletag :tmp_dir

  test "compares the devices with what the variant is for", %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    mac = put_in(machine.host.os, "macos")
    cpu = {:ok, %{mlx: "0.32.2", devices: [:cpu]}}
    both = {:ok, %{mlx: "0.32.2", devices: [:cpu, :gpu]}}
    message = "MLX 0.32.2 on cpu, but not on gpu, which the variant cpu is for"
    only_cpu = [facts: %{devices: [:cpu]}]

    cases = [
      {machine, ["cpu"], cpu, Outcome.ok("MLX 0.32.2 on cpu", only_cpu)},
      {machine, ["cpu", "gpu"], both,
       Outcome.ok("MLX 0.32.2 on cpu and gpu", facts: %{devices: [:cpu, :gpu]})},
      {machine, ["cpu", "gpu"], cpu, Outcome.warning(message, "nvidia-smi", only_cpu)},
      {mac, ["cpu", "gpu"], cpu,
       Outcome.warning(message, "system_profiler SPDisplaysDataType", only_cpu)},
      {machine, ["cpu"], {:error, "no answer"},
       Outcome.error(
         "the library does not answer",
         "report it: https://github.com/ausimian/emily/issues",
         details: [{"reason", "no answer"}]
       )}
    ]

    for {machine, devices, info, expected} <- cases do
      facts = put_in(Machine.facts(machine).selection.devices, devices)
      assert Devices.run(%{machine | info: fn -> info end}, facts) == expected
    end
  end
end
