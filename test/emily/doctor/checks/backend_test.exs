Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.BackendTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Backend, Machine, Outcome}

  @moduletag :tmp_dir

  test "says what left the backend", %{tmp_dir: tmp} do
    names = ["order", "windows", "functions"]
    left = [{"functions", "reduce left Emily"}]
    next = "report it: https://github.com/ausimian/emily/issues"

    for {answer, expected} <- [
          {{:ok, names, []}, Outcome.ok("3 of 3 operations")},
          {{:ok, names, left}, Outcome.error("2 of 3 operations", next, details: left)},
          {:absent, Outcome.skipped("this build is without Nx (EMILY_BARE)")}
        ] do
      assert Backend.run(Machine.well(tmp, backend: fn -> answer end), %{}) == expected
    end
  end
end
