Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.SmokeTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Smoke, Machine, Outcome}

  @moduletag :tmp_dir

  test "checks the value that each device computes", %{tmp_dir: tmp} do
    right = {:ok, {54.0, 54.0}}
    wrong = {:ok, {54.0, 53.5}}
    next = "report it: https://github.com/ausimian/emily/issues"

    cases = [
      {%{cpu: right}, Outcome.ok("right on cpu")},
      {%{cpu: right, gpu: right}, Outcome.ok("right on cpu and gpu")},
      {%{cpu: right, gpu: wrong},
       Outcome.error("wrong on gpu", next, details: [{"gpu", "expected 54.0, got: 53.5"}])},
      {%{cpu: {:error, "out of memory"}, gpu: wrong},
       Outcome.error("wrong on cpu and gpu", next,
         details: [{"cpu", "out of memory"}, {"gpu", "expected 54.0, got: 53.5"}]
       )}
    ]

    for {answers, expected} <- cases do
      machine = Machine.well(tmp, smoke: &Map.fetch!(answers, &1))
      facts = %{devices: %{devices: answers |> Map.keys() |> Enum.sort()}}
      assert Smoke.run(machine, facts) == expected
    end
  end
end
