Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.LoadTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Load, Machine, Outcome}

  @moduletag :tmp_dir

  test "repeats what the loader said", %{tmp_dir: tmp} do
    reason = "libmlx.so: cannot open shared object file"

    cases = [
      {fn -> :ok end, Outcome.ok("libemily.so is loaded")},
      {fn -> {:error, reason} end,
       Outcome.error(
         "libemily.so does not load",
         "report it: https://github.com/ausimian/emily/issues",
         details: [{"reason", reason}]
       )}
    ]

    for {load, expected} <- cases do
      machine = Machine.well(tmp, load: load)
      assert Load.run(machine, Machine.facts(machine)) == expected
    end

    checkout = Machine.well(tmp, load: fn -> {:error, reason} end, checkout?: true)
    checkout = %{checkout | reinstall: "cargo xtask nif"}
    File.rm!(Path.join(checkout.priv, "manifest.json"))
    assert Load.run(checkout, Machine.facts(checkout)).next == "cargo xtask nif"
  end
end
