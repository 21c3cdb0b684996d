Code.require_file("../machine.exs", __DIR__)

defmodule Emily.Doctor.Checks.FloorsTest do
  use ExUnit.Case, async: true

  alias Emily.Doctor.{Checks.Floors, Machine, Outcome}

  @moduletag :tmp_dir

  setup %{tmp_dir: tmp} do
    machine = Machine.well(tmp)
    %{machine: machine, facts: Machine.facts(machine)}
  end

  test "says what is there and what is needed", %{machine: machine, facts: facts} do
    assert Floors.run(machine, facts) ==
             Outcome.ok(
               "glibc 2.41 (needs 2.35), GLIBCXX 3.4.33 (needs 3.4.30), NIF 2.17 (needs 2.17)"
             )

    assert Floors.run(machine, %{facts | files: %{origin: :source}}) ==
             Outcome.ok("built here from source, for this machine")
  end

  test "names everything that is too old", %{machine: machine, facts: facts} do
    cases = [
      {%{glibc: "2.34"}, ["glibc 2.35 or newer; this machine has 2.34"]},
      {%{glibcxx: nil}, ["libstdc++ with GLIBCXX 3.4.30 or newer; this machine has none"]},
      {%{glibc: "2.9", nif: "2.16"},
       [
         "a VM with NIF version 2.17; this one has 2.16",
         "glibc 2.35 or newer; this machine has 2.9"
       ]}
    ]

    for {older, problems} <- cases do
      assert Floors.run(%{machine | host: Map.merge(machine.host, older)}, facts) ==
               Outcome.error("this machine is too old for the installed files", "build it",
                 details: Enum.map(problems, &{"needed", &1})
               )
    end
  end

  test "leaves the shared libraries to their own check", %{machine: machine, facts: facts} do
    assert %Outcome{status: :ok} = Floors.run(put_in(machine.host.libraries, %{}), facts)
  end
end
